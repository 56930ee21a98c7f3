"""What can be completed: commands, their options, and the values of these."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Literal

from fvd._qcow2_size import OPTIONS as QCOW2_OPTIONS
from fvd.amendable import ALIASES, AMENDABLE
from fvd.cli import _common, main
from fvd.options import FVD_OPTIONS, Option

Kind = Literal["words", "files", "folders", "options", "nothing"]

CACHE_MODES = ("writeback", "writethrough", "none", "directsync", "unsafe")
FORMATS = {
    ("bench", "--format"): ("fvd",),
    ("convert", "--target-format"): _common.WRITABLE,
    ("create", "--format"): _common.WRITABLE,
    ("serve", "--log-format"): ("text", "json"),
}
"""Values of options whose value is called FMT, where they are not those that can be read."""

MODES = {
    "--aio": ("threads", "io_uring", "native"),
    "--cache": CACHE_MODES,
    "--detect-zeroes": ("off", "on", "unmap"),
    "--discard": ("ignore", "unmap"),
}
"""Values of options of `serve` whose value is called MODE."""

PROGRAM_OPTIONS = (
    ("--help", "display the help", ()),
    ("--version", "display the version", ()),
    ("--log-level", "tell what is done", ("off", "error", "warn", "info", "debug", "trace")),
    ("--log-format", "form of what is told", ("text", "json")),
    ("--errors", "form of errors", ("text", "json")),
)
"""Options before any command."""

_METAVARS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "AIO": ("words", MODES["--aio"]),
    "BACKING": ("files", ()),
    "BASE": ("files", ()),
    "CACHE": ("words", CACHE_MODES),
    "DIR": ("folders", ()),
    "DIR|URL": ("folders", ()),
    "FILE": ("files", ()),
    "LEVEL": ("words", PROGRAM_OPTIONS[2][2]),
    "OPTIONS": ("options", ()),
    "PATH": ("files", ()),
}
_FREE = (
    "ADDR", "ADDR:PORT", "BYTE", "COUNT", "DEPTH", "DN", "LENGTH", "N", "NAME", "OFFSET", "RATE", "SECONDS",
    "SEED", "SIZE", "STEP", "TEXT", "WORDS",
)  # fmt: skip
"""Values that cannot be completed."""


@dataclass(frozen=True)
class Values:
    """The values of an option."""

    name: str
    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """An option of a command. `only_after_equals`: its value can be left out, and follows a `=` otherwise."""

    flags: tuple[str, ...]
    help: str
    values: Values | None
    only_after_equals: bool


@dataclass(frozen=True)
class Command:
    """A command with its options, the names for `-o`, and the words that its first argument can be."""

    name: str
    summary: str
    flags: tuple[Flag, ...]
    options: tuple[Option, ...]
    actions: tuple[str, ...]


def commands() -> list[Command]:
    """Return all commands."""
    return [_command(name, summary) for name, summary in main.COMMANDS.items()]


def _command(name: str, summary: str) -> Command:
    module = importlib.import_module(f"fvd.cli.{name}")
    entries = module.parser().entries
    flags = tuple(_flag(name, what, help) for what, help in entries if what.startswith("-"))
    return Command(name, summary, flags, _options(name), tuple(getattr(module, "ACTIONS", ())))


def _options(name: str) -> tuple[Option, ...]:
    if name == "amend":
        known = {option.name: option for option in AMENDABLE}
        others = (Option(other, known[it].kind, known[it].description) for other, it in ALIASES.items())
        return (*AMENDABLE, *others)
    if name == "measure":
        of_fvd = {option.name for option in FVD_OPTIONS}
        return (*FVD_OPTIONS, *(option for option in QCOW2_OPTIONS if option.name not in of_fvd))
    return FVD_OPTIONS


def _flag(command: str, what: str, help: str) -> Flag:
    described = re.fullmatch(r"(?P<flags>[-\w, ]*-[\w-]+)(?:\[=(?P<after>[^]]+)\]| (?P<value>\S+))?", what)
    assert described, f"not understood in the help of {command}: {what}"
    flags = tuple(described["flags"].split(", "))
    name = described["value"] or described["after"]
    values = None if name is None else _values(command, flags, name)
    text = " ".join(help.split()).partition(";")[0].partition(" (")[0].partition(": ")[0]
    return Flag(flags, text, values, described["after"] is not None)


def _values(command: str, flags: tuple[str, ...], name: str) -> Values:
    if name == "FMT":
        return Values(name, "words", FORMATS.get((command, flags[-1]), _common.READABLE))
    if name == "MODE":
        return Values(name, "words", MODES[flags[-1]])
    if name in _METAVARS:
        return Values(name, *_METAVARS[name])
    if name in _FREE:
        return Values(name, "nothing")
    words = tuple(name.split("|"))
    unknown = f"say in scripts/completions/model.py what {name} is (fvd {command} {flags[-1]})"
    assert all(word.islower() for word in words), unknown
    return Values(flags[-1].strip("-").upper(), "words", words)
