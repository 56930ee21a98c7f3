"""The examples in the docstrings of the package: every public name has one, and all of them run."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

import fvd.aio
import fvd.amendable
import fvd.options
import fvd.types
from support import MIB
from support.examples import docstrings, examples, run_examples

MODULES = (fvd, fvd.aio, fvd.amendable, fvd.options, fvd.types)
DOCSTRINGS = {name: text for module in MODULES for name, text in docstrings(module).items()}
EXAMPLES = {name: code for name, text in DOCSTRINGS.items() if (code := examples(text))}

# Why there is no example.
WITHOUT = {
    "fvd.__version__": "a string, which has no docstring: the module shows it",
    "fvd.NoSpaceError": "needs a file system that is full",
    "fvd.PoisonedError": "needs a medium that fails",
}


def names_for(name: str) -> dict[str, Any]:
    """The names that the examples of `name` may use, as the docstring of `fvd` says."""
    module = next(module for module in reversed(MODULES) if name.startswith(module.__name__))
    names = {"fvd": fvd} | {key: value for key, value in vars(module).items() if module is not fvd}
    if name.startswith("fvd.Image."):
        names["image"] = fvd.open("disk.fvd", "r+")
    elif name.startswith("fvd.aio.Image."):
        names["image"] = asyncio.run(fvd.aio.open("disk.fvd", "r+")._open())
    elif name.startswith("fvd.Remote."):
        names["remote"] = fvd.Remote()
    elif name.startswith("fvd.Server."):
        names["server"] = fvd.serve("disk.fvd", socket="nbd.sock")
    return names


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_of_a_docstring_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("cache/v1", mode=0o700)
    Path("base.raw").write_bytes(b"base" * 1024)
    os.truncate("base.raw", MIB)
    fvd.create("disk.fvd", "64M")
    fvd.create("overlay.fvd", backing_file="base.raw", backing_format="raw")
    wrong = run_examples(EXAMPLES[name], names_for(name))
    assert not wrong, f"{name}:\n{wrong}"


def test_every_public_name_has_an_example() -> None:
    without = sorted(set(DOCSTRINGS) - set(EXAMPLES))
    assert without == sorted(WITHOUT), f"without an example: {', '.join(without)}"


def test_every_example_is_in_a_block_that_is_run() -> None:
    for name, text in DOCSTRINGS.items():
        assert text.count(">>>") == EXAMPLES.get(name, "").count(">>>"), name


def test_the_examples_of_coroutines_await_them() -> None:
    for name, text in EXAMPLES.items():
        if name.startswith("fvd.aio.Image."):
            assert not re.search(r"(?<!await )(image|overlay)\.\w+\(", text), name
