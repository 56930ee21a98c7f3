"""Counters of an open image, and the totals of its sessions."""

import json
import os
from pathlib import Path

import pytest

import fvd
from support import fvd_command

MIB = 1 << 20


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "base.raw").write_bytes(os.urandom(4 * MIB))
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw", backing_format="raw", options={"block_size": "64K"})
    return path


def test_an_open_image_counts_what_it_does(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.pread(1000, 5)
        image.pwrite(b"x" * 4096, MIB)
        image.pwrite(b"x" * 65536, 2 * MIB)
        image.zero(65536, 3 * MIB)
        image.flush()
        stats = image.stats()
    assert (stats["reads"], stats["read-bytes"]) == (1, 1000)
    assert (stats["writes"], stats["written-bytes"]) == (2, 4096 + 65536)
    assert (stats["zeroes"], stats["zeroed-bytes"], stats["flushes"]) == (1, 65536, 1)
    assert stats["copy-on-write-bytes"] == 65536 - 4096
    assert stats["base-read-bytes"] == 1000 + 65536 - 4096
    assert (stats["filling-writes"], stats["base-reads-avoided"]) == (3, 2)
    assert stats["journal-sectors"] > 0


def test_sessions_that_were_closed_add_up(overlay: Path) -> None:
    assert set(fvd.stats(overlay)["totals"].values()) == {0}
    for number in range(3):
        with fvd.open(overlay, "r+") as image:
            image.pwrite(b"x" * 65536, number * 65536)
    stats = fvd.stats(overlay)
    assert stats["totals"]["writes"] == 3
    assert stats["totals"]["written-bytes"] == 3 * 65536
    assert (stats["local-bytes"], stats["base-bytes"]) == (3 * 65536, 4 * MIB)
    with fvd.open(overlay, "r+") as image:
        image.prefetch()
    stats = fvd.stats(overlay)
    assert (stats["local-bytes"], stats["base-bytes"]) == (0, 0)
    assert stats["totals"]["prefetched"] == 4 * MIB - 3 * 65536
    assert fvd.check(overlay)["corruptions"] == 0


def test_the_command_tells_people_and_programs(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"x" * MIB, 0)
    out = fvd_command("info", "--stats", overlay).stdout.decode()
    assert "local: 1 MiB of 4 MiB (25.0%)" in out
    assert "written bytes: 1048576 (1 MiB)" in out
    document = json.loads(fvd_command("info", "--stats", "--output=json", overlay).stdout)
    assert document["stats"] == fvd.stats(overlay)
    assert document["format"] == "fvd"
    error = fvd_command("info", "--stats", overlay.parent / "base.raw", ok=[1]).stderr.decode()
    assert "only fvd images have --stats" in error


def test_what_a_killed_session_has_flushed_is_local(overlay: Path) -> None:
    if os.fork() == 0:
        image = fvd.open(overlay, "r+")
        image.pwrite(b"x" * MIB, MIB)
        image.flush()
        image.pwrite(b"x" * MIB, 3 * MIB)
        os._exit(0)
    os.wait()
    assert fvd.info(overlay)["dirty-flag"] is True
    before = overlay.read_bytes()
    assert fvd.stats(overlay)["local-bytes"] == MIB
    assert "local: 1 MiB of 4 MiB (25.0%)" in fvd_command("info", "--stats", overlay).stdout.decode()
    assert overlay.read_bytes() == before
    fvd.open(overlay, "r+").close()
    assert fvd.stats(overlay)["local-bytes"] == MIB
