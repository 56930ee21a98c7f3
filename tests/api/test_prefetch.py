"""Copy-on-read and prefetch, from Python and from the command line."""

import json
import os
import time
from pathlib import Path
from typing import Literal, Unpack

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
def test_a_prefetched_image_no_longer_needs_its_base(base: Path, compact: bool) -> None:
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


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_the_local_bytes_are_reported_without_prefetch_too(base: Path, mode: Literal["r", "r+"]) -> None:
    path = overlay(base)
    with fvd.open(path, "r+") as image:
        image.pwrite(b"x" * (3 * MIB), MIB)
        assert image.prefetch_status()["local"] == 3 * MIB
    with fvd.open(path, mode) as image:
        status = image.prefetch_status()
        assert (status["state"], status["local"], status["total"]) == ("waiting", 3 * MIB, 8 * MIB)
        with fvd.serve(image, bind="127.0.0.1", port=0) as server:
            [export] = server.stats()["exports"].values()
            assert export["prefetch"] is not None
            assert export["prefetch"]["local"] == 3 * MIB
        if mode == "r+":
            image.pwrite(b"x" * MIB, 6 * MIB)
            assert image.prefetch_status()["local"] == 4 * MIB


def test_an_image_takes_no_more_space_than_its_sparse_base(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    with base.open("wb") as file:
        for page in range(82):
            file.seek(page * 25 * 4096)
            file.write(b"\7" * 4096)
    for compact in [False, True]:
        path = tmp_path / f"{compact}.fvd"
        fvd.create(path, backing_file=base.name, backing_format="raw", options={"compact_image": compact})
        with fvd.open(path, "r+") as image:
            image.prefetch()
        space = path.stat().st_blocks * 512
        assert space <= base.stat().st_blocks * 512 + 128 * 1024, f"{space} bytes"
        base.rename(tmp_path / "away")
        assert fvd.compare(path, tmp_path / "away")["identical"]
        (tmp_path / "away").rename(base)


def test_an_image_without_a_base_has_nothing_to_prefetch(tmp_path: Path) -> None:
    path = tmp_path / "disk.fvd"
    fvd.create(path, MIB)
    with fvd.open(path, "r+") as image:
        assert image.prefetch()["total"] == 0
        image.resume_prefetch()
        image.pause_prefetch()


def test_prefetch_requires_a_writable_image(base: Path) -> None:
    with fvd.open(overlay(base)) as image:
        assert image.prefetch_status()["state"] == "waiting"
        with pytest.raises(fvd.NotPermittedError, match="read-only"):
            image.prefetch()


def test_a_callback_exception_pauses_prefetch_until_called_again(base: Path) -> None:
    path = overlay(base)

    def refuse(_: PrefetchStatus) -> None:
        raise RuntimeError("enough")

    with fvd.open(path, "r+") as image:
        with pytest.raises(RuntimeError, match="enough"):
            image.prefetch(progress=refuse)
        assert image.prefetch()["state"] == "finished"


def test_a_truncated_base_fails_prefetch_and_keeps_writes(base: Path) -> None:
    path = overlay(base)
    with fvd.open(path, "r+") as image:
        image.pwrite(b"kept", 0)
        os.truncate(base, 4 * MIB)
        with pytest.raises(fvd.IoError, match="has changed while it was in use"):
            image.prefetch()
        assert image.prefetch_status()["state"] == "failed"
        assert image.pread(4, 0) == b"kept"
    assert fvd.check(path)["corruptions"] == 0


def test_an_image_with_that_option_prefetches_by_itself(base: Path) -> None:
    path = overlay(base, prefetch_start_delay=3600)
    with fvd.open(path, "r+") as image:
        assert image.prefetch_status()["state"] == "waiting"
    fvd.amend(path, prefetch_start_delay=1)
    with fvd.open(path, "r+") as image:
        deadline = time.monotonic() + 30
        while image.prefetch_status()["state"] != "finished":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    base.unlink()
    with fvd.open(path) as image:
        assert len(image.pread(8 * MIB, 0)) == 8 * MIB


def test_prefetch_continues_in_the_next_session_after_a_close(base: Path) -> None:
    content = base.read_bytes()
    path = overlay(base)
    for _ in range(3):
        with fvd.open(path, "r+") as image:
            image.resume_prefetch()
    with fvd.open(path, "r+") as image:
        assert image.prefetch()["state"] == "finished"
        assert image.pread(8 * MIB, 0) == content


def test_copy_on_read_stores_in_the_background(base: Path) -> None:
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
