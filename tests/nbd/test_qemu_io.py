"""`qemu-io` on an export: patterns, zeros, discards, flushes, compared with a raw file of the same
content.
"""

import random
from pathlib import Path

import pytest

from support import KIB, MIB, run
from support.disks import allocated
from support.serving import KINDS, Disk, Server

SECTOR = 512
SLOT = 128 * KIB


def qemu_io(target: str | Path, *commands: str, ok: tuple[int, ...] = (0,)) -> str:
    words = [word for command in commands for word in ("-c", command)]
    return run("qemu-io", "-f", "raw", *words, target, ok=ok).stdout.decode()


def test_patterns_are_read_as_written(disk: Disk, tmp_path: Path) -> None:
    golden = tmp_path / "golden.raw"
    golden.write_bytes(disk.content)
    rng = random.Random(6)
    commands = []
    for number in range(150):
        length = rng.choice([1, 511, 512, 4096, 70_001, 300 * KIB])
        offset = rng.randrange(len(disk.content) - length)
        kind = rng.choice([f"write -P {number}", f"write -f -P {number}", "write -z", "write -z -u"])
        commands += [f"{kind} {offset} {length}", "flush"][: 1 + (number % 10 == 9)]
    qemu_io(golden, *commands)
    with disk.serve() as server:
        qemu_io(server.uri, *commands)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", golden, server.uri)
    assert disk.read() == golden.read_bytes()


def test_a_read_that_does_not_find_the_pattern_fails(overlay: Disk) -> None:
    """Checks that the test above would detect an error."""
    with overlay.serve() as server:
        qemu_io(server.uri, "write -P 7 1M 64k", "read -P 7 1M 64k")
        assert "failed" in qemu_io(server.uri, "read -P 8 1M 64k", ok=(0, 1))


@pytest.mark.parametrize("unaligned", [0, 1000])
def test_zeros_are_written_at_any_offset(disk: Disk, unaligned: int) -> None:
    with disk.serve() as server:
        qemu_io(server.uri, f"write -z {MIB + unaligned} {2 * MIB + 300}", "flush")
    start, end = MIB + unaligned, 3 * MIB + 300 + unaligned
    assert disk.read() == disk.content[:start] + bytes(end - start) + disk.content[end:]


def test_a_discarded_range_is_unchanged_or_zeros(disk: Disk) -> None:
    start, length = 2 * MIB, 4 * MIB + 5000
    with disk.serve() as server:
        qemu_io(server.uri, f"discard {start} {length}", "flush")
    now = disk.read()
    assert now[:start] == disk.content[:start]
    assert now[start + length :] == disk.content[start + length :]
    for at in range(start, start + length, SECTOR):
        sector = now[at : min(at + SECTOR, start + length)]
        assert sector in (disk.content[at : at + len(sector)], bytes(len(sector))), at


@pytest.mark.parametrize("kind", ["plain", "compact", "over_raw", "over_qcow2"])
def test_a_discard_frees_space_unless_ignored(tmp_path: Path, kind: str) -> None:
    disk = KINDS[kind](tmp_path, 16 * MIB)
    with disk.serve("--discard", "ignore") as server:
        qemu_io(server.uri, "write -P 55 0 12M", "flush", "discard 0 12M", "read -P 55 0 12M")
        full = allocated(disk.path)
    with disk.serve() as server:
        qemu_io(server.uri, "discard 0 12M", "flush", "read -P 0 0 12M")
    assert allocated(disk.path) <= full - 10 * MIB
    assert disk.read() == bytes(12 * MIB) + disk.content[12 * MIB :]


def test_a_disk_that_was_discarded_is_written_again(disk: Disk) -> None:
    with disk.serve() as server:
        qemu_io(server.uri, f"discard 0 {len(disk.content)}", "flush")
        qemu_io(server.uri, "write -P 33 0 8M", "discard 1M 2M", "write -P 44 2M 64k", "flush")
        qemu_io(server.uri, "read -P 33 0 1M", "read -P 44 2M 64k", "read -P 33 3M 5M")
    now = disk.read()
    assert now[:MIB] == b"\x21" * MIB
    assert now[2 * MIB :][: 64 * KIB] == b"\x2c" * 64 * KIB
    assert now[3 * MIB : 8 * MIB] == b"\x21" * (5 * MIB)


def test_a_read_only_export_refuses_writes(overlay: Disk) -> None:
    with overlay.serve("-r") as server:
        said = run("qemu-io", "-f", "raw", "-c", "write 0 4k", server.uri, ok=(1,)).stderr
    assert b"denied" in said.lower() or b"read-only" in said.lower(), said
    assert overlay.read() == overlay.content


def blkverify(server: Server, golden: Path, *commands: str, ok: tuple[int, ...] = (0,)) -> bytes:
    """QEMU's own comparison: it executes everything on both sides, and stops when a read differs."""
    words = [word for command in commands for word in ("-c", command)]
    both = f"driver=blkverify,raw.driver=file,raw.filename={golden}"
    both += f",test.driver=raw,test.file.driver=nbd,test.file.path={server.socket}"
    return run("qemu-io", *words, "--image-opts", both, ok=ok).stderr


def test_blkverify_sees_no_difference(disk: Disk, tmp_path: Path) -> None:
    golden = tmp_path / "golden.raw"
    golden.write_bytes(disk.content)
    rng = random.Random(7)
    commands = []
    for group in range(12):
        # In separate slots, because two concurrent writes of the same bytes may end in either order.
        for slot in rng.sample(range(len(disk.content) // SLOT), 10):
            length = rng.randrange(1, SLOT // SECTOR // 2) * SECTOR
            offset = slot * SLOT + rng.randrange(SLOT // SECTOR // 2) * SECTOR
            verb = rng.choice([f"aio_write -P {group}", "aio_read", f"write -P {group + 100}", "read"])
            commands.append(f"{verb} {offset} {length}")
        commands += ["aio_flush", "flush"]
    commands.append(f"read 0 {len(disk.content)}")
    with disk.serve() as server:
        blkverify(server, golden, *commands)
    assert disk.read() == golden.read_bytes()


def test_blkverify_detects_a_difference(overlay: Disk, tmp_path: Path) -> None:
    golden = tmp_path / "golden.raw"
    changed = bytearray(overlay.content)
    changed[MIB] ^= 1
    golden.write_bytes(changed)
    with overlay.serve() as server:
        assert b"mismatch" in blkverify(server, golden, "read 0 2M", ok=(1,))
