"""A number outside its range is a ValueError with the name of the argument, the range and the number."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import griffe
import pytest

import fvd
import fvd.aio
from fvd.types import ImageOptions
from support import MIB, REPOSITORY

MAX = 2**63 - 1
PACKAGE = Path(fvd.__file__).parents[1]

# What takes an integer, the argument, and the largest value. Options and attributes have tests of their own
# (test_create_options.py, test_amend.py): here there is one of each.
INTEGERS = {
    ("fvd.create", "size"): MAX,
    ("fvd.Cache.prune", "size"): MAX,
    ("fvd.dump", "limit"): MAX,
    ("fvd.map", "start"): MAX,
    ("fvd.map", "length"): MAX,
    ("fvd.measure", "size"): MAX,
    ("fvd.convert", "source"): 2**31 - 1,
    ("fvd.convert", "target"): 2**31 - 1,
    ("fvd.convert", "sparse_size"): 16 * MIB,
    ("fvd.convert", "rate_limit"): MAX,
    ("fvd.commit", "rate_limit"): MAX,
    ("fvd.rebase", "rate_limit"): MAX,
    ("fvd.serve", "port"): 65535,
    ("fvd.serve", "offset"): MAX,
    ("fvd.serve", "size"): MAX,
    ("fvd.serve", "shared"): MAX,
    ("fvd.serve", "handshake_limit"): 2**32 - 1,
    ("fvd.serve", "poll_max_ns"): 500_000,
} | {
    (f"{module}.Image.{method}", argument): MAX
    for module in ("fvd", "fvd.aio")
    for method, argument in [
        ("pread", "count"),
        ("pread", "offset"),
        ("readinto", "offset"),
        ("pwrite", "offset"),
        ("discard", "count"),
        ("discard", "offset"),
        ("zero", "count"),
        ("zero", "offset"),
        ("extents", "offset"),
        ("extents", "length"),
        ("prefetch", "rate_limit"),
        ("set_prefetch_rate", "rate"),
    ]
}
SECONDS = [(name, "base_timeout") for name in ("fvd.serve", "fvd.open", "fvd.aio.open")]

# The other arguments that a call needs.
NEEDED: dict[str, dict[str, Any]] = {
    "fvd.create": {"path": "new.fvd"},
    "fvd.dump": {"path": "disk.fvd"},
    "fvd.map": {"path": "disk.fvd"},
    "fvd.convert": {"source": "disk.fvd", "target": "new.raw"},
    "fvd.commit": {"path": "disk.fvd"},
    "fvd.rebase": {"path": "disk.fvd", "backing_file": "base.raw"},
    "fvd.serve": {"disks": "disk.fvd"},
    "fvd.open": {"path": "disk.fvd"},
    "fvd.aio.open": {"path": "disk.fvd"},
    "pread": {"count": 1, "offset": 0},
    "readinto": {"buffer": bytearray(1), "offset": 0},
    "pwrite": {"buffer": b"x", "offset": 0},
    "discard": {"count": 1, "offset": 0},
    "zero": {"count": 1, "offset": 0},
    "extents": {},
    "prefetch": {},
    "set_prefetch_rate": {},
    "measure": {},
    "prune": {},
}


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fvd.create("disk.fvd", MIB)


def call(name: str, **arguments: object) -> None:
    """Calls the function or the method of an open image, and awaits the result."""
    last = name.rpartition(".")[2]
    given = NEEDED.get(name) or NEEDED[last]
    given = {**given, **arguments}

    async def run() -> None:
        match name.split("."):
            case ["fvd", "Image", method]:
                with fvd.open("disk.fvd", "r+") as image:
                    getattr(image, method)(**given)
            case ["fvd", "aio", "Image", method]:
                async with fvd.aio.open("disk.fvd", "r+") as other:
                    await getattr(other, method)(**given)
            case ["fvd", "Cache", method]:
                getattr(fvd.Cache("cache"), method)(**given)
            case ["fvd", "aio", "open"]:
                async with fvd.aio.open(**given):
                    pass
            case _:
                function: Callable[..., object] = getattr(fvd, last)
                result = function(**given)
                if isinstance(result, fvd.Server):
                    result.stop()
                elif isinstance(result, fvd.Image):
                    result.close()

    asyncio.run(run())


def refusal(name: str, argument: str, wrong: float) -> str:
    """The text of the ValueError about this value."""
    with pytest.raises(ValueError, match=argument) as raised:
        call(name, **{argument: wrong})
    assert raised.type is ValueError
    return str(raised.value)


@pytest.mark.parametrize(("name", "argument"), INTEGERS)
def test_an_integer_outside_its_range_is_a_value_error(name: str, argument: str) -> None:
    most = INTEGERS[name, argument]
    for wrong in (-1, -(2**63) - 1, most + 1, 2**64, 2**200):
        message = f"{argument} must be between 0 and {most}, not {wrong}"
        assert refusal(name, argument, wrong) == message


@pytest.mark.parametrize(("name", "argument"), INTEGERS)
def test_an_argument_that_is_no_integer_is_a_type_error(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=re.escape(argument)):
        call(name, **{argument: 1.5})


@pytest.mark.parametrize(("name", "argument"), SECONDS)
def test_a_time_outside_its_range_is_a_value_error(name: str, argument: str) -> None:
    for wrong in (0, -1, 2**32, -(10**400), 10**400, float("nan"), float("inf")):
        message = f"{argument} must be more than 0 and at most 4294967295 seconds, not {wrong}"
        assert refusal(name, argument, wrong) == message
    call(name, **{argument: 4294967295})


def test_a_server_cannot_be_waited_for_longer_than_a_century() -> None:
    with fvd.serve("disk.fvd") as server:
        for wrong in (2**32, 10**400, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="timeout must be at most 4294967295 seconds"):
                server.wait(wrong)
        for negative in (-1, -(10**400), float("-inf")):
            assert not server.wait(negative)


@pytest.mark.parametrize("wrong", [-(2**63) - 1, 2**63, 2**200])
def test_an_option_outside_its_range_is_a_value_error(wrong: int) -> None:
    for options, expected in (
        ({"block_size": wrong}, f"'block_size' expects a number from 1 to 2147483136, not {wrong}"),
        ({"journal_size": wrong}, f"'journal_size' expects a number from -2^63 to 2^63 - 1, not {wrong}"),
    ):
        with pytest.raises(ValueError, match=re.escape(expected)):
            fvd.create("new.fvd", MIB, options=cast("ImageOptions", options))
    with pytest.raises(ValueError, match=f"'num_prefetch_slots' expects a number from 1 to .*, not {wrong}"):
        fvd.amend("disk.fvd", num_prefetch_slots=wrong)


def public_functions() -> Iterator[griffe.Function]:
    """Every exported function, and every method of an exported class."""
    stubs = griffe.load_extensions(str(REPOSITORY / "scripts" / "docs_docstrings.py"))
    package = griffe.load("fvd", search_paths=[PACKAGE], allow_inspection=False, extensions=stubs)
    for module in (package, package["aio"]):
        for name in module.exports or []:
            exported = module[str(name)]
            if exported.is_function:
                yield exported
            elif exported.is_class:
                yield from (member for member in exported.members.values() if member.is_function)


def test_every_integer_argument_is_tested_here() -> None:
    tested = {(name.rpartition(".")[2], argument) for name, argument in INTEGERS}
    # Tested with the names that it takes, too, in `test_logging.py`.
    tested.add(("enable_logging", "level"))
    found = {
        (function.name, parameter.name)
        for function in public_functions()
        for parameter in function.parameters
        if re.search(r"\bint\b", str(parameter.annotation))
    }
    assert found == tested
