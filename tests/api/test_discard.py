"""Discards, and zeroing that frees space."""

import os
from pathlib import Path

import pytest

import fvd
from fvd.types import ImageOptions
from support import MIB
from support.corpus import Case, cases
from support.disks import allocated

CHUNK = 256 * 1024
SLACK = 64 * 1024  # for metadata of the file system
COMPACT = [case for case in cases() if case.hashed and case.recoverable and case.header["compact_image"]]
PLAIN = [case for case in cases() if case.hashed and case.recoverable and not case.header["compact_image"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    options: ImageOptions = {"compact_image": True, "chunk_size": CHUNK, "storage_grow_unit": CHUNK}
    fvd.create(path, 64 * MIB, options=options)
    return path


def test_a_discard_frees_space_and_leaves_a_good_image(path: Path) -> None:
    with fvd.open(path, "r+") as image:
        image.pwrite(os.urandom(16 * MIB), 0)
        image.flush()
        full = allocated(path)
        image.discard(8 * MIB, 4 * MIB)
        image.flush()
        assert allocated(path) < full - 7 * MIB
        assert image.pread(8 * MIB, 4 * MIB) == bytes(8 * MIB)
        stats = image.stats()
    assert (stats["discards"], stats["discarded-bytes"], stats["freed-chunks"]) == (1, 8 * MIB, 32)
    checked = fvd.check(path)
    assert (checked["corruptions"], checked["leaks"]) == (0, 0)
    data = [(extent["start"], extent["length"]) for extent in fvd.map(path) if extent["data"]]
    assert data == [(0, 4 * MIB), (12 * MIB, 4 * MIB)]


def test_alternating_discards_and_writes_do_not_grow_a_file(path: Path) -> None:
    with fvd.open(path, "r+") as image:
        image.pwrite(os.urandom(8 * MIB), 0)
    size = path.stat().st_size
    for number in range(4):
        with fvd.open(path, "r+") as image:
            for at in range(0, 8 * MIB, MIB):
                image.discard(MIB, at)
                image.flush()
                image.pwrite(bytes([number + 1]) * MIB, at)
    with fvd.open(path) as image:
        assert image.pread(8 * MIB, 0) == b"\4" * 8 * MIB
    assert path.stat().st_size <= size + 2 * MIB
    checked = fvd.check(path)
    assert (checked["corruptions"], checked["leaks"]) == (0, 0)


def test_a_discard_in_a_plain_image_makes_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "plain.fvd"
    fvd.create(path, 16 * MIB)
    with fvd.open(path, "r+") as image:
        image.pwrite(os.urandom(16 * MIB), 0)
        image.flush()
        full = allocated(path)
        image.discard(8 * MIB, 4 * MIB)
        assert image.pread(8 * MIB, 4 * MIB) == bytes(8 * MIB)
    assert allocated(path) <= full - 8 * MIB + SLACK


def test_blocks_of_the_base_are_only_discarded_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"\7" * 4 * MIB)
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw", backing_format="raw", options={"block_size": "64K"})
    with fvd.open(path, "r+") as image:
        image.discard(3 * 65536, 1000)
        assert image.stats()["base-reads"] == 0
        assert image.pread(65536, 0) == b"\7" * 65536
        assert image.pread(2 * 65536, 65536) == bytes(2 * 65536)
        assert image.pread(65536, 3 * 65536) == b"\7" * 65536
    with fvd.open(path) as image:
        assert image.pread(2 * 65536, 65536) == bytes(2 * 65536)


def test_discard_and_detect_zeroes_work_as_requested(path: Path) -> None:
    with fvd.open(path, "r+", discard="ignore") as image:
        image.pwrite(b"x" * MIB, 0)
        image.discard(MIB, 0)
        assert image.pread(MIB, 0) == b"x" * MIB
    with fvd.open(path, "r+", detect_zeroes="unmap") as image:
        image.pwrite(bytes(2 * MIB), 0)
        stats = image.stats()
    assert (stats["writes"], stats["detected-zeroes"], stats["freed-chunks"]) == (1, 1, 4)
    assert not any(extent["data"] for extent in fvd.map(path))


def test_a_discard_beyond_the_end_or_without_r_plus_is_refused(path: Path) -> None:
    with fvd.open(path, "r+") as image:
        with pytest.raises(ValueError, match="beyond the end of the disk"):
            image.discard(2, 64 * MIB - 1)
        image.discard(0, 64 * MIB)
    with fvd.open(path) as image, pytest.raises(fvd.NotPermittedError, match="read-only"):
        image.discard(512, 0)
    for arguments in ({"discard": "trim"}, {"detect_zeroes": "yes"}):
        with pytest.raises(ValueError, match="Invalid"):
            fvd.open(path, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", COMPACT + PLAIN[:2], ids=str)
def test_images_of_the_original_are_discarded_and_used_again(case: Case, tmp_path: Path) -> None:
    path = case.unpack(tmp_path)
    with fvd.open(path, "r+") as image:
        before = image.pread(image.size, 0)
        start = image.size // 4 // MIB * MIB
        end = image.size // 4 * 3 // MIB * MIB
        image.discard(end - start, start)
        image.discard(0, 0)
        image.flush()
        discarded = image.pread(end - start, start)
        assert set(discarded) <= {0} or case.header["base_img"]
        image.pwrite(b"again" * 1000, start + 512)
    with fvd.open(path) as image:
        assert image.pread(start, 0) == before[:start]
        assert image.pread(image.size - end, end) == before[end:]
        expected = bytearray(discarded)
        expected[512:5512] = b"again" * 1000
        assert image.pread(end - start, start) == expected
    assert fvd.check(path)["corruptions"] == 0
