"""Full file systems and limits: the error reaches the caller, and the image stays consistent."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import KIB, MIB, fvd_command
from support.disks import Ballast, content, random_disk
from support.processes import measured

SIZE = 8 * MIB
PIECE = 64 * KIB
KINDS = ("plain", "compact", "overlay", "compact-overlay", "no-journal")


def create(place: Path, kind: str) -> Path:
    path = place / "image.fvd"
    options = {
        "compact": "compact_image=on,chunk_size=64K,storage_grow_unit=256K,journal_size=64K",
        "overlay": "block_size=24K,journal_size=64K",
        "compact-overlay": "block_size=24K,compact_image=on,chunk_size=64K,journal_size=64K",
        "no-journal": "compact_image=on,chunk_size=64K,storage_grow_unit=64K,journal_size=-1",
    }.get(kind, "journal_size=64K")
    command = ["create", "-q", "-f", "fvd", "-o", options]
    if "overlay" in kind:
        random_disk(place / "base.raw", 4 * MIB, seed=5)
        command += ["-b", "base.raw", "-F", "raw"]
    fvd_command(*command, path, str(SIZE))
    return path


def writes(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    while True:
        size = rng.choice([512, 4096, PIECE, 3 * PIECE])
        yield rng.randrange((SIZE - size) // 512) * 512, rng.randbytes(size)


def assert_old_or_new(now: bytes, old: bytes, new: bytes) -> None:
    for at in range(0, len(now), 512):
        sector = now[at : at + 512]
        assert sector in (old[at : at + 512], new[at : at + 512]), f"sector at {at}"


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_survives_a_full_file_system(small_file_system: Path, kind: str) -> None:
    image = create(small_file_system, kind)
    rng = random.Random(f"no space {kind}")
    with fvd.open(image, "r+") as disk:
        model = bytearray(content(disk))
        stream = writes(rng)
        for _ in range(10):
            offset, data = next(stream)
            disk.pwrite(data, offset)
            model[offset : offset + len(data)] = data
        disk.flush()
        ballast = Ballast(small_file_system, left=MIB)
        failures = 0
        for _ in range(2000):
            offset, data = next(stream)
            place = slice(offset, offset + len(data))
            try:
                disk.pwrite(data, offset)
                model[place] = data
            except fvd.NoSpaceError:
                failures += 1
                now = disk.pread(len(data), offset)
                assert_old_or_new(now, bytes(model[place]), data)
                model[place] = now
                if failures == 1:
                    ballast.fill()
                if failures == 5:
                    break
        assert failures == 5, "the file system did not fill up"
        assert content(disk) == model
        ballast.drop()
        for _ in range(10):
            offset, data = next(stream)
            disk.pwrite(data, offset)
            model[offset : offset + len(data)] = data
        disk.flush()
        assert content(disk) == model
    with fvd.open(image) as disk:
        assert content(disk) == model
    fvd_command("check", "-q", image)


@pytest.mark.parametrize(
    "options", ["compact_image=on,chunk_size=64K", "compact_image=on,chunk_size=64K,journal_size=-1"]
)
def test_a_flush_without_room_for_metadata_can_be_repeated(
    small_file_system: Path, tmp_path: Path, options: str
) -> None:
    image = small_file_system / "image.fvd"
    data_file = tmp_path / "data.raw"
    data_file.touch()
    fvd_command("create", "-q", "-f", "fvd", "-o", f"{options},data_file={data_file}", image, str(SIZE))
    with fvd.open(image, "r+", trust=[tmp_path]) as disk:
        # The table has space on the medium; the journal is a hole.
        ballast = Ballast(small_file_system, left=MIB)
        ballast.fill()
        disk.pwrite(b"a" * PIECE, MIB)
        if "journal" in options:
            disk.flush()
        else:
            for _ in range(2):
                with pytest.raises(fvd.NoSpaceError):
                    disk.flush()
        disk.pwrite(b"b" * PIECE, 2 * MIB)
        ballast.drop()
        disk.flush()
        unclosed = image.read_bytes()
    # The state after a kill right after the flush.
    image.write_bytes(unclosed)
    with fvd.open(image, trust=[tmp_path]) as disk:
        assert disk.pread(PIECE, MIB) == b"a" * PIECE
        assert disk.pread(PIECE, 2 * MIB) == b"b" * PIECE
    fvd_command("check", "-q", image)


@pytest.mark.parametrize("target", ["fvd", "raw"])
def test_a_conversion_without_room_leaves_no_file(
    small_file_system: Path, tmp_path: Path, target: str
) -> None:
    source = random_disk(tmp_path / "source.raw", 32 * MIB, seed=3, density=1)
    before = os.statvfs(small_file_system).f_bavail
    out = small_file_system / "out"
    finished = measured("convert", "-f", "raw", "-O", target, source, out)
    finished.assert_refused(1)
    assert b"No space left on device" in finished.err
    assert not out.exists()
    assert os.statvfs(small_file_system).f_bavail == before


def test_a_create_without_room_leaves_no_file(
    small_file_system: Path,
) -> None:
    Ballast(small_file_system, left=MIB).fill()
    finished = measured(
        "create", "-f", "fvd", "-o", "compact_image=on,chunk_size=64K", small_file_system / "out", "1G"
    )
    finished.assert_refused(1)
    assert not (small_file_system / "out").exists()


LIMITED = """
import resource, sys
import fvd
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with fvd.open(sys.argv[1], "r+") as disk:
    disk.pwrite(b"a" * 65536, 0)
    disk.flush()
    failures = 0
    for offset in range(65536, disk.size, 65536):
        try:
            disk.pwrite(b"b" * 65536, offset)
        except fvd.NoSpaceError:
            failures += 1
            assert disk.pread(65536, offset) == bytes(65536), offset
    assert failures, "nothing failed"
    assert disk.pread(65536, 0) == b"a" * 65536
    disk.flush()
    print(failures)
"""


def test_an_image_survives_a_file_size_limit(tmp_path: Path) -> None:
    image = create(tmp_path, "compact")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, image, str(3 * MIB)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    failures = int(done.stdout)
    fvd_command("check", "-q", image)
    with fvd.open(image, "r+") as disk:
        stored = SIZE - failures * PIECE
        assert content(disk) == b"a" * PIECE + b"b" * (stored - PIECE) + bytes(failures * PIECE)
        disk.pwrite(b"c" * PIECE, SIZE - PIECE)
