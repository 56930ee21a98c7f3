"""The Python layer over the core: what it adds, and what it passes to the core."""

import importlib
import inspect
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fvd
import fvd.aio
import fvd.options
import fvd.types
from cli.fake_core import FakeCore
from fvd.types import Mode
from support import run


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    return FakeCore.installed(monkeypatch)


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
        "base_error": None,
        "base_timeout": None,
        "force_share": False,
        "trust": (),
        "cache_dir": None,
        "remote": None,
        "base": None,
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


def test_info_is_one_image_or_the_chain(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(512))
    overlay = tmp_path / "overlay.fvd"
    fvd.create(overlay, backing_file="base.raw", backing_format="raw")
    assert [layer["format"] for layer in fvd.info(overlay, backing_chain=True)] == ["fvd", "raw"]
    assert fvd.info(overlay) == fvd.info(overlay, backing_chain=True)[0]


def exports(module: ModuleType) -> list[tuple[str, object]]:
    """The functions and classes that a module exports, by name."""
    found = ((name, getattr(module, name)) for name in module.__all__)
    return [(name, value) for name, value in found if inspect.isroutine(value) or inspect.isclass(value)]


@pytest.mark.parametrize("module", [fvd, fvd.aio, fvd.options, fvd.types], ids=lambda module: module.__name__)
def test_a_public_name_says_where_it_is_imported_from(module: ModuleType) -> None:
    for name, value in exports(module):
        assert (value.__module__, getattr(value, "__qualname__", name)) == (module.__name__, name)
        assert pickle.loads(pickle.dumps(value)) is value


def test_names_that_are_imported_late_are_listed_from_the_start() -> None:
    script = "import fvd; print(set(fvd.__all__) <= set(dir(fvd)), hasattr(fvd, 'missing'))"
    assert run(sys.executable, "-W", "ignore", "-c", script).stdout == b"True False\n"
    with pytest.raises(AttributeError, match="module 'fvd' has no attribute 'missing'"):
        fvd.missing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_a_debug_build_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fvd._fvd"], "DEBUG_BUILD", True)
    with pytest.warns(RuntimeWarning, match="debug build"):
        importlib.reload(fvd)
