"""`qemu-img` on an export, which it knows only through NBD."""

import json
from pathlib import Path

import pytest

from support import run
from support.disks import random_disk
from support.serving import Disk, Server


def qemu_img(*words: str | Path) -> str:
    return run("qemu-img", *words).stdout.decode()


def test_info_tells_the_size(disk: Disk) -> None:
    with disk.serve() as server:
        info = json.loads(qemu_img("info", "--output=json", "-f", "raw", server.uri))
    assert info["virtual-size"] == len(disk.content)


def test_map_finds_the_holes(disk: Disk) -> None:
    with disk.serve() as server:
        extents = json.loads(qemu_img("map", "--output=json", "-f", "raw", server.uri))
    assert sum(extent["length"] for extent in extents) == len(disk.content)
    zeros = [extent for extent in extents if extent["zero"]]
    assert zeros
    for extent in zeros:
        assert not any(disk.content[extent["start"] : extent["start"] + extent["length"]]), extent


def test_compare_finds_no_difference_and_then_the_only_one(disk: Disk, tmp_path: Path) -> None:
    golden = tmp_path / "golden.raw"
    golden.write_bytes(disk.content)
    with disk.serve() as server:
        assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", golden, server.uri)
        run("qemu-io", "-f", "raw", "-c", "write -P 165 5000000 1", server.uri)
        said = run("qemu-img", "compare", "-f", "raw", "-F", "raw", golden, server.uri, ok=(1,)).stdout
    assert b"mismatch" in said
    assert disk.read()[5_000_000] == 165


@pytest.mark.parametrize("options", [["-m", "1"], ["-W", "-m", "16"], ["-S", "64k"]], ids=" ".join)
def test_convert_out_gives_the_disk(overlay: Disk, tmp_path: Path, options: list[str]) -> None:
    copy = tmp_path / "copy.qcow2"
    with overlay.serve() as server:
        qemu_img("convert", *options, "-f", "raw", "-O", "qcow2", server.uri, copy)
        assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, server.uri)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", copy, tmp_path / "copy.raw")
    assert (tmp_path / "copy.raw").read_bytes() == overlay.content


@pytest.mark.parametrize("options", [[], ["-W", "-m", "16", "--target-is-zero"]], ids=["default", "parallel"])
def test_convert_in_replaces_the_disk(disk: Disk, tmp_path: Path, options: list[str]) -> None:
    source = random_disk(tmp_path / "new.raw", len(disk.content), seed=5, density=0.4)
    with disk.serve() as server:
        if options:
            run("qemu-io", "-f", "raw", "-c", f"write -z 0 {len(disk.content)}", server.uri)
        qemu_img("convert", "-n", *options, "-f", "raw", "-O", "raw", source, server.uri)
        assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", source, server.uri)
    assert disk.read() == source.read_bytes()


def test_bench_writes_its_pattern(disk: Disk) -> None:
    """Sixteen requests at once, and a flush after every sixteen. The pattern shows where they wrote."""
    with disk.serve() as server:
        bench(server, "-w", "--pattern=90", "--flush-interval=16")
        bench(server)
    assert disk.read() == b"\x5a" * (2000 * 4096) + disk.content[2000 * 4096 :]


def bench(server: Server, *options: str) -> None:
    qemu_img("bench", "-f", "raw", "-c", "2000", "-s", "4096", "-d", "16", *options, server.uri)
