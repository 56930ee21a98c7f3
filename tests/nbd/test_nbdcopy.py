"""`nbdcopy` of libnbd: copies whole disks out and in, over several connections."""

from pathlib import Path

from support import run
from support.disks import random_disk
from support.serving import Disk

FOUR = "--connections=4"


def test_a_disk_is_copied_out(disk: Disk, tmp_path: Path) -> None:
    copy = tmp_path / "copy.raw"
    with disk.serve() as server:
        run("nbdcopy", FOUR, "--request-size=65536", server.uri, copy)
    assert copy.read_bytes() == disk.content == disk.read()


def test_a_disk_is_copied_in(disk: Disk, tmp_path: Path) -> None:
    source = random_disk(tmp_path / "new.raw", len(disk.content), seed=3, density=0.6)
    with disk.serve() as server:
        run("nbdcopy", FOUR, "--flush", source, server.uri)
        out = run("nbdcopy", FOUR, server.uri, "-").stdout
    assert out == source.read_bytes() == disk.read()


def test_a_disk_is_copied_over_a_zeroed_one(disk: Disk, tmp_path: Path) -> None:
    """With `--destination-is-zero` it does not write zeros. The content of the base must not appear
    instead.
    """
    source = random_disk(tmp_path / "new.raw", len(disk.content), seed=4, density=0.3)
    with disk.serve() as server:
        run("qemu-io", "-f", "raw", "-c", f"write -z 0 {len(disk.content)}", server.uri)
        run("nbdcopy", FOUR, "--destination-is-zero", "--flush", source, server.uri)
    assert disk.read() == source.read_bytes()


def test_one_server_copies_to_another(disk: Disk, tmp_path: Path, overlay: Disk) -> None:
    with disk.serve("-r") as source, overlay.serve() as target:
        run("nbdcopy", FOUR, "--flush", source.uri, target.uri)
    assert overlay.read() == disk.content
