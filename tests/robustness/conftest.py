"""Places with little space."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import MIB, run, unmount


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A mounted ext4 file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.fail("only root can mount a file system: run these tests as root, or in a container")
    device = tmp_path / "device"
    with device.open("wb") as file:
        file.truncate(24 * MIB)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", device)
    place = tmp_path / "small"
    place.mkdir()
    run("mount", "-o", "loop", device, place)
    try:
        yield place
    finally:
        unmount(place)
