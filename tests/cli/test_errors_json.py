"""`fvd --errors=json`: what a program reads of errors."""

from __future__ import annotations

import json
from pathlib import Path

import fvd
from support import FVD, MIB, run


def objects(*words: str | Path, status: int = 1) -> list[dict[str, object]]:
    said = run(FVD, "--errors=json", *words, ok=[status]).stderr.decode()
    return [json.loads(line) for line in said.splitlines()]


def test_an_error_has_its_class_its_file_and_the_status(tmp_path: Path) -> None:
    (found,) = objects("info", tmp_path / "none.fvd")
    assert found["message"] == f"Could not open '{tmp_path / 'none.fvd'}': No such file or directory"
    del found["message"]
    assert found == {
        "level": "error",
        "error": "IoError",
        "status": 1,
        "errno": "ENOENT",
        "file": str(tmp_path / "none.fvd"),
        "operation": "open",
    }


def test_a_locked_image_can_be_told_from_others(tmp_path: Path) -> None:
    image = tmp_path / "vm.fvd"
    fvd.create(image, size=MIB)
    with fvd.open(image, "r+"):
        (found,) = objects("check", image)
    assert found["error"] == "InUseError"


def test_wrong_words_and_values_are_no_errors_of_files(tmp_path: Path) -> None:
    (found,) = objects("info")
    assert (found["error"], found["level"]) == ("usage", "error")
    assert "--help" in str(found["hint"])
    (found,) = objects("create", tmp_path / "x.fvd", "many")
    assert found["error"] == "invalid"
    (found,) = objects("compare", tmp_path / "a", tmp_path / "b", status=2)
    assert found["status"] == 2


def test_a_warning_is_one(tmp_path: Path) -> None:
    fvd.create(tmp_path / "base.fvd", size=MIB)
    (found,) = objects("create", "-q", "-b", "base.fvd", tmp_path / "vm.fvd", status=0)
    assert found["level"] == "warning"
    assert not str(found["message"]).startswith("warning")


def test_another_form_is_refused() -> None:
    said = run(FVD, "--errors=xml", "info", "x", ok=[1]).stderr.decode()
    assert said.startswith("fvd: --errors is 'xml', expecting text or json\n")
