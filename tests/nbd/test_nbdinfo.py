"""What `nbdinfo` of libnbd reports about an export."""

import json
import subprocess
from itertools import groupby
from pathlib import Path

import pytest

import fvd
from fvd.types import Extent
from support import KIB, TOOLS_ENV, run
from support.serving import Disk, Server

HOLE_AND_ZERO = 3


def nbdinfo(*words: str) -> str:
    return run("nbdinfo", *words).stdout.decode()


def can(server: Server, what: str) -> bool:
    # 0: yes, 2: no; 1: an error.
    return run("nbdinfo", "--can", what, server.uri, ok=(0, 2)).returncode == 0


def test_size_and_flags(disk: Disk) -> None:
    with disk.serve() as server:
        assert int(nbdinfo("--size", server.uri)) == len(disk.content)
        everything = (
            "connect", "read", "write", "flush", "fua", "trim", "zero", "fast-zero", "df", "cache",
            "multi-conn", "structured-reply",
        )  # fmt: skip
        missing = {what for what in everything if not can(server, what)}
        assert missing <= {"cache", "fast-zero"}, missing
        assert not can(server, "rotational")


def test_a_read_only_export_says_so(overlay: Disk) -> None:
    with overlay.serve("-r") as server:
        run("nbdinfo", "--is", "read-only", server.uri)
        assert not can(server, "write")
        assert not can(server, "trim")
        # No client writes, so every connection sees the same content.
        assert can(server, "multi-conn")


def test_the_list_shows_every_export_with_its_size(overlay: Disk, tmp_path: Path) -> None:
    fvd.create(tmp_path / "other.fvd", 3 << 20)
    with Server(f"one={overlay.path}", f"two={tmp_path / 'other.fvd'}") as server:
        listed = json.loads(nbdinfo("--list", "--json", server.export("")))
        sizes = {export["export-name"]: export["export-size"] for export in listed["exports"]}
        assert sizes == {"one": len(overlay.content), "two": 3 << 20}
        assert int(nbdinfo("--size", server.export("two"))) == 3 << 20
        refused = run("nbdinfo", server.export("three"), ok=(1,))
        assert b"three" in refused.stderr


def test_a_description_and_a_name_reach_the_client(overlay: Disk) -> None:
    with overlay.serve("-x", "disk", "-D", "the disk of a test") as server:
        (export,) = json.loads(nbdinfo("--list", "--json", server.uri))["exports"]
        assert export["export-name"] == "disk"
        assert export["description"] == "the disk of a test"


def test_contexts_and_block_sizes_are_sent(disk: Disk) -> None:
    with disk.serve() as server:
        (export,) = json.loads(nbdinfo("--json", server.uri))["exports"]
    assert {"base:allocation", "qemu:allocation-depth"} <= set(export["contexts"])
    assert export["block_size_minimum"] == 1
    assert export["block_size_preferred"] >= 4096
    assert export["block_size_maximum"] >= 32 << 20


def mapped(server: Server, context: str) -> list[tuple[int, int, int]]:
    """Offset, length and type of each extent. Adjacent extents of the same type are merged."""
    entries = json.loads(nbdinfo(f"--map={context}", "--json", server.uri))
    return merged([(entry["offset"], entry["length"], entry["type"]) for entry in entries])


def merged(extents: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    runs = [list(group) for _, group in groupby(extents, key=lambda extent: extent[2])]
    return [(group[0][0], sum(length for _, length, _ in group), group[0][2]) for group in runs]


def expected(extents: list[Extent], context: str) -> list[tuple[int, int, int]]:
    def kind(extent: Extent) -> int:
        if context == "base:allocation":
            return (0 if extent["data"] else 1) | (2 if extent["zero"] else 0)
        return extent["depth"] + 1 if extent["present"] else 0

    return merged([(extent["start"], extent["length"], kind(extent)) for extent in extents])


@pytest.mark.parametrize("context", ["base:allocation", "qemu:allocation-depth"])
def test_the_map_is_that_of_the_engine(disk: Disk, context: str) -> None:
    if disk.fills:
        # Prefetch changes the map while the client reads it. After prefetch there would be nothing to check.
        fvd.amend(disk.path, prefetch_start_delay=0)
    with fvd.open(disk.path) as image:
        extents = image.extents()
    with disk.serve() as server:
        told = mapped(server, context)
    assert told == expected(extents, context)
    assert sum(length for _, length, _ in told) == len(disk.content)


def test_a_discard_is_a_hole_to_others_during_writes_too(disk: Disk) -> None:
    with disk.serve("-e", "0") as server:
        # Data, of which whole chunks and blocks, and parts of chunks, are discarded.
        commands = ["write -P 1 1M 2M", "discard 1M 512k", "discard 1600k 64k", "discard 2M 128k"]
        writing = [f"aio_write -q -P 2 {1700 + 8 * number}k 4k" for number in range(40)]
        words = [word for command in [*commands, *writing] for word in ("-c", command)]
        run("qemu-io", "-d", "unmap", "-f", "raw", *words, server.uri)
        client = subprocess.Popen(
            [
                "qemu-io",
                "-f",
                "raw",
                *(word for command in writing * 20 for word in ("-c", command)),
                server.uri,
            ],
            stdout=subprocess.DEVNULL,
            env=TOOLS_ENV,
        )
        try:
            writes = True
            while writes:
                writes = client.poll() is None
                told = mapped(server, "base:allocation")
                for start, length in ((1024, 512), (1600, 64), (2048, 128)):
                    inside = [
                        kind
                        for offset, size, kind in told
                        if offset < (start + length) * KIB and offset + size > start * KIB
                    ]
                    assert inside == [HOLE_AND_ZERO], (start, told)
        finally:
            client.kill()
            client.wait()


def test_the_zeros_of_the_map_are_zeros(disk: Disk) -> None:
    with disk.serve() as server:
        told = mapped(server, "base:allocation")
    zeros = [(offset, length) for offset, length, kind in told if kind & 2]
    assert zeros
    assert all(not any(disk.content[offset : offset + length]) for offset, length in zeros)
