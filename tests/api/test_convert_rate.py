"""The rate of a conversion can be limited."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import fvd
from support import FVD, MIB, run
from support.disks import random_disk


def test_a_conversion_is_not_faster_than_its_rate(tmp_path: Path) -> None:
    disk, copy = tmp_path / "disk.raw", tmp_path / "copy.raw"
    disk.write_bytes(random.Random(3).randbytes(6 * MIB))
    begun = time.monotonic()
    fvd.convert(disk, copy, rate_limit=8 * MIB)
    # Each 2 MiB begin when those before them have had their time.
    assert time.monotonic() - begun >= 0.5
    assert copy.read_bytes() == disk.read_bytes()


def test_a_rate_has_a_suffix_and_holes_take_no_time(tmp_path: Path) -> None:
    disk, copy = tmp_path / "disk.raw", tmp_path / "copy.fvd"
    with disk.open("wb") as file:
        file.truncate(1 << 40)
    run(FVD, "convert", "-q", "-r", "1M", "-O", "fvd", "-o", "compact_image=on,chunk_size=64M", disk, copy)
    assert fvd.compare(disk, copy)["identical"]


def test_a_rate_that_is_none_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    random_disk(disk, MIB, seed=3)
    with pytest.raises(ValueError, match="rate_limit must be between 0 and"):
        fvd.convert(disk, tmp_path / "copy.raw", rate_limit=-1)
    said = run(FVD, "convert", "-r", "fast", disk, tmp_path / "copy.raw", ok=[1]).stderr
    assert b"Invalid rate limit 'fast'" in said
    assert not (tmp_path / "copy.raw").exists()
