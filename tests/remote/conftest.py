"""A server that fails on demand, with a disk, and an overlay on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support.fault_server import DATA, FaultServer, serving


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving() as server:
        server.put("base.raw", DATA)
        yield server


@pytest.fixture
def path(server: FaultServer, tmp_path: Path) -> Path:
    path = tmp_path / "vm.fvd"
    fvd.create(path, backing_file=server.url("base.raw"), backing_format="raw", trust=server.trust)
    return path
