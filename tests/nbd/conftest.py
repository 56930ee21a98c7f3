from pathlib import Path

import pytest

from support import MIB
from support.serving import KINDS, Disk

SIZE = 16 * MIB


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """An image of each kind."""
    return KINDS[request.param](tmp_path, SIZE)


@pytest.fixture
def overlay(tmp_path: Path) -> Disk:
    """An image of the kind with the most features, for tests that do not depend on the kind."""
    folder = tmp_path / "overlay"
    folder.mkdir()
    return KINDS["over_raw"](folder, SIZE)
