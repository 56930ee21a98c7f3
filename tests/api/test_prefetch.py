"""Disks that fill themselves from their base: copy-on-read and prefetch, from Python and the command line."""

import json
import os
import time
from pathlib import Path
from typing import Unpack

import pytest

import fvd
from fvd.types import ImageOptions, PrefetchStatus
from support import fvd_command

MIB = 1 << 20


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(os.urandom(8 * MIB))
    return path


def overlay(base: Path, **options: Unpack[ImageOptions]) -> Path:
    path = base.parent / "overlay.fvd"
    fvd.create(path, backing_file=base.name, backing_format="raw", options=options)
    return path


def run(*arguments: str | os.PathLike[str], ok: int = 0) -> tuple[str, str]:
    done = fvd_command(*arguments, ok=[ok])
    return done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("compact", [False, True])
def test_a_prefetched_image_needs_its_base_no_more(base: Path, compact: bool) -> None:
    content = base.read_bytes()
    path = overlay(base, compact_image=compact)
    seen: list[PrefetchStatus] = []
    with fvd.open(path, "r+") as image:
        image.pwrite(b"x" * 1000, 12345)
        status = image.prefetch(progress=seen.append)
        assert status["state"] == "finished"
        assert image.stats()["prefetched"] > 7 * MIB
    assert status["total"] == status["local"] == 8 * MIB
    assert seen[-1] == status
    assert [it["local"] for it in seen] == sorted(it["local"] for it in seen)
    base.unlink()
    with fvd.open(path) as image:
        assert image.pread(8 * MIB, 0) == content[:12345] + b"x" * 1000 + content[13345:]
        assert image.prefetch_status()["state"] == "finished"
    assert fvd.check(path)["corruptions"] == 0


def test_an_image_without_a_base_has_nothing_to_prefetch(tmp_path: Path) -> None:
    path = tmp_path / "disk.fvd"
    fvd.create(path, MIB)
    with fvd.open(path, "r+") as image:
        assert image.prefetch()["total"] == 0
        image.resume_prefetch()
        image.pause_prefetch()


def test_only_who_may_write_may_prefetch(base: Path) -> None:
    with fvd.open(overlay(base)) as image:
        assert image.prefetch_status()["state"] == "waiting"
        with pytest.raises(fvd.NotPermittedError, match="read-only"):
            image.prefetch()


def test_an_exception_of_the_callback_pauses_prefetch_and_the_next_call_goes_on(base: Path) -> None:
    path = overlay(base)

    def refuse(_: PrefetchStatus) -> None:
        raise RuntimeError("enough")

    with fvd.open(path, "r+") as image:
        with pytest.raises(RuntimeError, match="enough"):
            image.prefetch(progress=refuse)
        assert image.prefetch()["state"] == "finished"


def test_a_base_that_is_cut_short_fails_prefetch_and_leaves_what_was_written(base: Path) -> None:
    path = overlay(base)
    with fvd.open(path, "r+") as image:
        image.pwrite(b"kept", 0)
        os.truncate(base, 4 * MIB)
        with pytest.raises(fvd.IoError, match="has changed while it was in use"):
            image.prefetch()
        assert image.prefetch_status()["state"] == "failed"
        assert image.pread(4, 0) == b"kept"
    assert fvd.check(path)["corruptions"] == 0


def test_an_image_fills_itself_when_it_says_so(base: Path) -> None:
    path = overlay(base, prefetch_start_delay=1)
    with fvd.open(path, "r+") as image:
        assert image.prefetch_status()["state"] == "waiting"
        deadline = time.monotonic() + 30
        while image.prefetch_status()["state"] != "finished":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    base.unlink()
    with fvd.open(path) as image:
        assert len(image.pread(8 * MIB, 0)) == 8 * MIB


def test_an_image_that_is_closed_while_it_prefetches_goes_on_in_the_next_session(base: Path) -> None:
    content = base.read_bytes()
    path = overlay(base)
    for _ in range(3):
        with fvd.open(path, "r+") as image:
            image.resume_prefetch()
    with fvd.open(path, "r+") as image:
        assert image.prefetch()["state"] == "finished"
        assert image.pread(8 * MIB, 0) == content


def test_what_was_read_is_stored_in_the_background(base: Path) -> None:
    path = overlay(base, copy_on_read=True)
    with fvd.open(path, "r+") as image:
        data = image.pread(MIB, 3 * MIB)
        deadline = time.monotonic() + 30
        while image.stats()["copied-on-read"] < MIB:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with fvd.open(path, "r+") as image:
        assert image.pread(MIB, 3 * MIB) == data
        assert image.stats()["base-reads"] == 0
    with fvd.open(path, "r+", copy_on_read=False) as image:
        image.pread(MIB, 0)
        time.sleep(0.05)
        assert image.stats()["copied-on-read"] == 0


def test_the_command_fetches_everything_and_says_so(base: Path) -> None:
    path = overlay(base)
    out, err = run("prefetch", "-p", path)
    assert err == ""
    assert "(100.00/100%)" in out
    assert "every block is local now" in out
    assert run("prefetch", path) == ("Nothing to fetch: the image needs no base.\n", "")


def test_the_command_reports_in_json_lines(base: Path) -> None:
    assert run("prefetch", "-q", "--progress=json", overlay(base)) == ("", "")
    _, err = run("prefetch", "--progress=json", overlay(base))
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[-1]["state"] == "finished"
    assert lines[-1]["percent"] == 100
    assert lines[-1]["local"] == lines[-1]["total"] == 8 * MIB


def test_the_command_says_why_it_cannot(base: Path, tmp_path: Path) -> None:
    path = overlay(base)
    with fvd.open(path, "r+"):
        assert "lock" in run("prefetch", path, ok=1)[1]
    base.unlink()
    _, err = run("prefetch", path, ok=1)
    assert "base.raw" in err
    assert "Traceback" not in err
    run("prefetch", tmp_path / "none", ok=1)


def test_holes_of_the_base_are_not_fetched(tmp_path: Path) -> None:
    with (tmp_path / "base.raw").open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(8 * MIB)
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw", backing_format="raw")
    with fvd.open(path, "r+") as image:
        image.prefetch()
        status, stats = image.prefetch_status(), image.stats()
    assert (status["fetched"], status["zeros"], status["local"]) == (MIB, 7 * MIB, 8 * MIB)
    assert (stats["prefetched"], stats["prefetched-zeros"]) == (MIB, 7 * MIB)
    assert stats["base-read-bytes"] == MIB
