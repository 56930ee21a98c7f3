"""The Python layer over the core: what it adds, and what it passes to the core."""

import importlib
import sys

import pytest

import fvd
from cli.fake_core import FakeCore
from fvd.types import Mode


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    fake = FakeCore()
    monkeypatch.setattr(fvd, "_core", fake)
    return fake


@pytest.mark.parametrize(("mode", "writable"), [("r", False), ("rb", False), ("r+", True), ("r+b", True)])
def test_open_takes_the_modes_of_a_file(core: FakeCore, mode: Mode, writable: bool) -> None:
    core.answers["open"] = None
    fvd.open("x", mode)
    assert core.settings == {
        "writable": writable,
        "write_base": False,
        "cache": "writeback",
        "discard": "unmap",
        "detect_zeroes": "off",
        "copy_on_read": None,
        "force_share": False,
        "trust": (),
    }


@pytest.mark.parametrize("mode", ["w", "a", "", "rw", "x"])
def test_open_refuses_modes_that_would_create(core: FakeCore, mode: str) -> None:
    with pytest.raises(ValueError, match="invalid mode"):
        fvd.open("x", mode)  # type: ignore[arg-type]
    assert core.calls == []


def test_create_reads_sizes_and_options_that_are_strings(core: FakeCore) -> None:
    core.answers["create"] = {"needs_trust": None}
    fvd.create("x", "1.5G", options={"block_size": "64K"})
    assert core.arguments == ("x", 3 << 29)
    assert core.settings["options"] == {"block_size": 65536}


def test_python_does_not_read_the_environment(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVD_TRUST", "/srv")
    core.answers["open"] = None
    fvd.open("x")
    assert core.settings["trust"] == ()


def test_info_is_one_image_or_the_chain(core: FakeCore) -> None:
    core.answers["info"] = ["a", "b"]
    answers: list[object] = [fvd.info("x"), fvd.info("x", backing_chain=True)]
    assert answers == ["a", ["a", "b"]]


def test_importing_a_debug_build_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fvd._fvd"], "DEBUG_BUILD", True)
    with pytest.warns(RuntimeWarning, match="debug build"):
        importlib.reload(fvd)
