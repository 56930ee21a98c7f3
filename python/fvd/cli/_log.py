"""The log of the core on stderr: `--log-level`, `--log-format` and `FVD_LOG`."""

from __future__ import annotations

import os

from fvd import _fvd as _core
from fvd.cli._arguments import UsageError
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Parser

_OPTIONS = ("--log-level", "--log-format", "--errors")
"""Those before the name of a command. `--errors` is handled by the program."""


def split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split a command line into these options at its front, with their values, and the rest."""
    found: dict[str, str] = {}
    while arguments and arguments[0].partition("=")[0] in _OPTIONS:
        name, equals, value = arguments[0].partition("=")
        if not equals and len(arguments) == 1:
            raise UsageError(f"option '{name}' requires an argument")
        found[name] = value if equals else arguments[1]
        arguments = arguments[1 if equals else 2 :]
    return found, arguments


def add_options(parser: Parser) -> None:
    """Add the options to a command that has them among its own."""
    parser.option(
        "--log-level",
        metavar="LEVEL",
        help="tell on stderr what is done: off, error, warn (default), info, debug, trace,\n"
        "or one for each part: fvd=info,fvd_nbd=debug (see also FVD_LOG)",
    )
    parser.option("--log-format", metavar="FMT", help="text (default) or json: one object a line")


def is_requested(level: str | None) -> bool:
    """Whether the user wants a log: the option `level`, or `FVD_LOG`."""
    return bool(level or os.environ.get("FVD_LOG"))


def start(level: str | None, format: str | None) -> None:
    """Start the log. The option `level` comes before `FVD_LOG`; without either, problems are told.

    Starts a thread: a process that forks does that before.
    """
    source = "--log-level"
    if not level and os.environ.get("FVD_LOG"):
        source, level = "FVD_LOG", os.environ["FVD_LOG"]
    try:
        _core.start_log("warn" if level is None else level, "text" if format is None else format)
    except ValueError as error:
        message = str(error)
        raise CommandError(message if "log format" in message else f"{source}: {message}") from None


def finish() -> None:
    """Wait a moment until the log is written."""
    _core.finish_log()
