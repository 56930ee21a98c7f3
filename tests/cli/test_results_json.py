"""`--output=json` of the commands that change something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import FVD, MIB, run
from support.disks import random_disk


def result(*words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(FVD, *words, "--output=json").stdout)
    return found


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    random_disk(tmp_path / "base.raw", 4 * MIB, seed=1)
    image = tmp_path / "vm.fvd"
    made = result("create", "-b", "base.raw", "-F", "raw", image)
    assert (made["format"], made["size"]) == ("fvd", 4 * MIB)
    assert made["options"]["backing_fmt"] == "raw"
    return image


def test_changes_say_what_has_changed(overlay: Path) -> None:
    assert result("resize", overlay, "+1M") == {"filename": str(overlay), "size": 5 * MIB}
    assert result("amend", "-o", "copy_on_read=on", overlay) == {
        "filename": str(overlay),
        "changed": {"copy_on_read": True},
    }


def test_copies_say_how_much_was_moved(overlay: Path, tmp_path: Path) -> None:
    assert result("commit", overlay)["written"] == 0
    assert result("rebase", "-b", "", overlay)["copied"] > 0
    other = tmp_path / "other.fvd"
    result("create", "-b", "base.raw", "-F", "raw", other)
    assert result("prefetch", other)["state"] == "finished"


def test_quiet_is_stronger(overlay: Path) -> None:
    assert run(FVD, "commit", "-q", "--output=json", overlay).stdout == b""


def test_another_form_is_refused_before_anything_is_done(overlay: Path) -> None:
    said = run(FVD, "resize", "--output=xml", overlay, "8M", ok=[1]).stderr
    assert b"--output expects 'human' or 'json' not 'xml'" in said
    assert json.loads(run(FVD, "info", "--output=json", overlay).stdout)["virtual-size"] == 4 * MIB
