"""The table of options: `create` stores each one, and `amend` changes or refuses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fvd
from fvd import _fvd as core
from fvd.amendable import ALIASES, AMENDABLE, is_attribute
from fvd.options import FVD_OPTIONS, escape
from support import MIB, fvd_command

VALUES: dict[str, str | int | bool] = {
    "add_storage_cmd": "grow, please",
    "backing_file": "base.raw",
    "backing_fmt": "raw",
    "block_size": 65536,
    "chunk_size": 65536,
    "compact_image": True,
    "copy_on_read": True,
    "data_file": "data.raw",
    "data_file_fmt": "raw",
    "detect_sparse_hole": 65536,
    "generate_prefetch_profile": True,
    "journal_size": MIB,
    "prefetch_profile_size": 12288,
    "prefetch_start_delay": 7,
    "profile_directed_prefetch_start_delay": 9,
    "size": 3 * MIB,
    "storage_grow_unit": 3 * MIB,
    "write_updates_base_img": "writeback",
}
"""For each option a value that is not the default."""
FIELDS = {"backing_file": "base_img", "backing_fmt": "base_img_fmt", "size": "virtual_disk_size"}
ELSEWHERE: dict[str, Callable[[dict[str, Any]], object]] = {
    "detect_sparse_hole": lambda header: header["need_zero_init"] and VALUES["detect_sparse_hole"],
    "prefetch_profile_size": lambda header: header["metadata_size"] - header["prefetch_profile_offset"],
}
"""How to see options that the header has no field for."""


def header(path: Path) -> dict[str, Any]:
    return fvd.dump(path)["header"]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    (tmp_path / "base.raw").write_bytes(b"\7" * (2 * MIB))
    fvd.create(tmp_path / "plain.fvd", 2 * MIB)
    return tmp_path / "plain.fvd"


def test_python_has_the_options_of_the_core() -> None:
    def rows(options: Any) -> list[tuple[str, str, str, str]]:
        return [(option.name, option.kind, option.description, option.limits) for option in options]

    assert (rows(FVD_OPTIONS), rows(AMENDABLE)) == (core.create_options(), core.amend_options())
    assert core.amend_aliases() == ALIASES
    assert (len(FVD_OPTIONS), len(AMENDABLE), len(ALIASES)) == (18, 25, 9)


@pytest.mark.parametrize("name", [option.name for option in FVD_OPTIONS])
def test_create_stores_every_option(plain: Path, name: str) -> None:
    path, value = plain.with_name("new.fvd"), VALUES[name]
    options = f"backing_file=base.raw,backing_fmt=raw,{name}={escape(value)}"
    fvd_command("create", "-q", "-o", options, path)
    headers = header(path), header(plain)
    stored = [ELSEWHERE[name](it) if name in ELSEWHERE else it[FIELDS.get(name, name)] for it in headers]
    assert stored[0] == value != stored[1]


@pytest.mark.parametrize("name", [option.name for option in FVD_OPTIONS if not is_attribute(option.name)])
def test_what_cannot_be_amended_is_refused_by_its_name(plain: Path, name: str) -> None:
    before, given = plain.read_bytes(), {name: VALUES[name]}
    with pytest.raises(ValueError, match=f"'{name}' cannot be changed"):
        fvd.amend(plain, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
        core.amend(plain, given)
    said = fvd_command("amend", "-o", f"{name}={escape(VALUES[name])}", plain, ok=[1]).stderr.decode()
    assert f"'{name}' cannot be changed" in said
    assert plain.read_bytes() == before


AT_CREATION = {ALIASES.get(option.name, option.name) for option in FVD_OPTIONS}


@pytest.mark.parametrize("name", [option.name for option in AMENDABLE if option.name not in AT_CREATION])
def test_what_is_only_amended_is_refused_by_create(plain: Path, name: str) -> None:
    path, options = plain.with_name("new.fvd"), {name: 1}
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
        fvd.create(path, MIB, options=options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
        core.create(path, MIB, options=options)
    said = fvd_command("create", "-o", f"{name}=1", path, "1M", ok=[1]).stderr.decode()
    assert f"Invalid parameter '{name}' ('fvd amend -o' sets it" in said
    assert not path.exists()


NUMBERS = [option.name for option in FVD_OPTIONS if option.kind in ("number", "size", "signed size")]


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "size"])
def test_a_number_that_no_field_holds_is_a_value_error(plain: Path, name: str) -> None:
    options: Any = {name: 1 << 64}
    with pytest.raises(ValueError, match=f"'{name}' expects a number from .* to .*, not {1 << 64}"):
        fvd.create(plain.with_name("new.fvd"), MIB, options=options)
    if name != "journal_size":
        options = {name: -(1 << 40)}
        with pytest.raises(ValueError, match=f"'{name}' expects a number from .*, not {-(1 << 40)}"):
            fvd.create(plain.with_name("new.fvd"), MIB, options=options)
