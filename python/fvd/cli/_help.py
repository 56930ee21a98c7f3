"""The texts of `--help`, at most 79 columns wide."""

from __future__ import annotations

from fvd.cli._examples import EXAMPLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fvd.cli._arguments import Parser

WIDTH = 79

GROUPS = {
    "Images": ("create", "info", "check", "map", "amend", "resize", "update", "dump"),
    "Copies": ("convert", "compare", "measure", "commit", "rebase", "prefetch"),
    "Serving": ("serve", "bench"),
    "Templates, and bases that are far away": ("publish", "profile", "cache"),
}
"""Where `fvd --help` shows each command. One that does not exist is left out."""


def of_program(commands: Mapping[str, str]) -> str:
    """Return the help of `fvd` with these commands and their summaries."""
    groups = "\n\n".join(
        f"{group}:\n" + "\n".join(f"  {name} - {commands[name]}" for name in names if name in commands)
        for group, names in GROUPS.items()
    )
    return (
        "FVD disk image utility.  Usage:\n\n"
        "  fvd [standard options] COMMAND [--help | command options]\n\n"
        "Standard options:\n"
        "  -h, --help\n     display this help and exit\n"
        "  -V, --version\n     display version info and exit\n"
        "  --log-level LEVEL\n     tell on stderr what is done: off, error, warn, info, debug or trace\n"
        "  --log-format FMT\n     text (default) or json: one object a line\n"
        "  --errors FMT\n     the same for errors, warnings and notes\n\n"
        "Commands (run fvd COMMAND --help for command-specific help):\n\n"
        f"{groups}\n\n"
        "Supported image formats:\n\n  fvd raw, and qcow2 to read from\n\n"
        "Example:\n\n  fvd create -b debian.raw -F raw vm.fvd\n"
    )


def of_command(parser: Parser) -> str:
    """Return the help of a command, in the layout of qemu-img, with examples at its end."""
    usage = "\n".join(usage_lines(f"fvd {parser.command} {parser.usage}"))
    entries = "\n".join(line for what, help in parser.entries for line in _entry(what, help))
    examples = "".join(f"  {line}\n" for line in EXAMPLES.get(parser.command, ()))
    end = f"\nExamples:\n{examples}" if examples else ""
    return f"{parser.summary}.  Usage:\n\n{usage}\n\nArguments:\n{entries}\n{end}"


def usage_lines(usage: str, width: int = WIDTH, margin: str = "  ") -> Iterator[str]:
    """Yield the lines of a usage. A text can have several, each with the name of the program in front."""
    joined = ""
    for line in usage.splitlines():
        separator = "\n" if line.split()[0] == "fvd" else " "
        joined += separator + " ".join(line.split())
    for line in joined.split("\n"):
        if words := line.split():
            yield from _wrapped(_together(words), margin, f"{margin}      ", width)


def _together(words: list[str]) -> list[str]:
    """Return the words, with those inside of one pair of brackets together if they fit."""
    pieces: list[str] = []
    depth = 0
    for word in words:
        if depth and len(pieces[-1]) + len(word) < WIDTH - 10:
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
        depth += sum(map(word.count, "[(")) - sum(map(word.count, "])"))
    return pieces


def _entry(what: str, help: str) -> Iterator[str]:
    yield f"  {what}"
    yield from _wrapped(help.split(), "     ", "     ")


def _wrapped(words: list[str], first: str, others: str, width: int = WIDTH) -> Iterator[str]:
    """Yield lines of the words. They begin with `first`, or `others` from the second line on."""
    line = first
    for word in words:
        if line.strip() and len(line) + len(word) + 1 > width:
            yield line
            line = others
        line += f" {word}" if line.strip() else word
    yield line
