"""Images and sockets for the tests. Sockets have a short path, because it is limited to 107 bytes."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import MIB


@pytest.fixture
def socket() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fvd-"))
    yield folder / "nbd"
    shutil.rmtree(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd.create(path, 16 * MIB)
    return path


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """An image whose base has a hole and then bytes of value 7."""
    with (tmp_path / "base.raw").open("wb") as base:
        base.seek(4 * MIB)
        base.write(b"\7" * (4 * MIB))
    path = tmp_path / "overlay.fvd"
    fvd.create(path, 16 * MIB, backing_file="base.raw", backing_format="raw", options={"block_size": "64K"})
    return path
