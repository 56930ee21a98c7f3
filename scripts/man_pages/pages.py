"""The man page of each command, and that of the program."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fvd.cli._examples import EXAMPLES
from fvd.cli._help import usage_lines
from scripts.man_pages import roff

Block = tuple[str, list[str]]
"""The kind of a part of a page (heading, code, table or text), and its lines."""

COMMENT = ".\\\" Made by 'make generated' from docs/cli."


def of_command(name: str, summary: str, markdown: str) -> str:
    """Return the man page of a command from its page in Markdown."""
    blocks = [block for block in _blocks(markdown) if block != ("heading", [f"# fvd {name}"])]
    usage = next(index for index, (kind, _) in enumerate(blocks) if kind == "code")
    end = next(index for index, (kind, _) in enumerate(blocks) if kind == "heading")
    before = [*blocks[:usage], *blocks[usage + 1 : end]]
    options = [block for block in before if _is_of_options(block)]
    lines = _head(f"fvd-{name}", summary)
    lines += [".SH SYNOPSIS", ".nf", *map(_usage, _synopsis(blocks[usage][1])), ".fi"]
    lines += [".SH DESCRIPTION", *_made(block for block in before if block not in options)]
    if options:
        lines += [".SH OPTIONS", *_made(options)]
    rest = blocks[end:]
    if ("heading", ["## Examples"]) not in rest:
        status = next(index for index, block in enumerate(rest) if block == ("heading", ["## Exit status"]))
        rest[status:status] = [("heading", ["## Examples"]), ("code", list(EXAMPLES[name]))]
    lines += [*_made(rest), ".SH SEE ALSO", ", ".join(_see_also(name, markdown))]
    return "\n".join(_without_empty_paragraphs(lines)) + "\n"


def of_program(commands: Mapping[str, str], groups: Mapping[str, tuple[str, ...]]) -> str:
    """Return the man page of `fvd`, with the commands in groups."""
    lines = _head("fvd", "create, copy and serve Fast Virtual Disk images")
    usage = "fvd [--log-level LEVEL] [--log-format text|json] [--errors text|json] COMMAND [OPTIONS]"
    lines += [".SH SYNOPSIS", ".nf", _usage(usage), ".fi", ".SH DESCRIPTION"]
    lines += [roff.inline(text) for text in DESCRIPTION]
    for group, names in groups.items():
        lines.append(f".SS {roff.escaped(group)}")
        for name in names:
            if name in commands:
                lines += [".TP", f"\\fBfvd\\-{name}\\fP(1)", roff.inline(commands[name])]
    for heading, terms in (("OPTIONS", OPTIONS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        lines.append(f".SH {heading}")
        lines += roff.table([["", ""], *([f"`{term}`", text] for term, text in terms.items())])
    lines += [".SH SEE ALSO", "\\fBqemu\\-img\\fP(1), \\fBqemu\\-nbd\\fP(8), \\fBnbdinfo\\fP(1)"]
    return "\n".join(lines) + "\n"


DESCRIPTION = (
    "`fvd` creates, reads, checks, copies and serves disk images of the format FVD, with raw and qcow2",
    "images as their bases. `fvd COMMAND --help` and `man fvd-COMMAND` tell about one command.",
)
OPTIONS = {
    "-h": "display a help and exit",
    "-V": "display the version and exit",
    "--log-level LEVEL": "tell on stderr what is done: off, error, warn, info, debug or trace",
    "--log-format FMT": "text (default) or json: one object a line",
    "--errors FMT": "text (default) or json: errors, warnings and notes are objects, one a line",
}
ENVIRONMENT = {
    "FVD_TRUST": "folders and URLs that images may name, as for `--trust`, with a `:` between them",
    "FVD_CONFIG": "the configuration file; if it is empty, none is read",
    "FVD_CACHE_DIR": "the folder of the cache for bases that are far away, as for `--cache-dir`",
    "FVD_LOG": "the level of the log, as for `--log-level`",
}
FILES = {"~/.config/fvd/config.toml": "the configuration file: what is trusted"}


def made(folder: Path, commands: Mapping[str, str], groups: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return all pages by the names of their files. `folder` has the pages in Markdown."""
    pages = {
        f"fvd-{name}.1": of_command(name, summary, (folder / f"{name}.md").read_text())
        for name, summary in commands.items()
    }
    return {"fvd.1": of_program(commands, groups), **pages}


def _head(name: str, summary: str) -> list[str]:
    text = roff.escaped(summary[0].lower() + summary[1:])
    title = f'.TH "{roff.escaped(name.upper())}" 1 "" fvd "Fast Virtual Disk"'
    return [COMMENT, title, ".SH NAME", f"{roff.escaped(name)} \\- {text}"]


def _blocks(markdown: str) -> Iterator[Block]:
    """Yield the parts of a page."""
    lines = iter(markdown.splitlines())
    for line in lines:
        if line.startswith("```"):
            yield "code", list(itertools.takewhile(lambda it: it != "```", lines))
        elif line.startswith("#"):
            yield "heading", [line]
        elif line:
            rest = list(itertools.takewhile(bool, lines))
            yield "table" if line.startswith("|") else "text", [line, *rest]


def _made(blocks: Iterator[Block] | list[Block]) -> Iterator[str]:
    for kind, lines in blocks:
        if kind == "heading":
            yield f".SH {roff.inline(lines[0].lstrip('# ').upper())}"
        elif kind == "code":
            yield from roff.literal(lines)
        elif kind == "table":
            rows = [roff.cells(line) for line in lines]
            yield from roff.table([rows[0], *rows[2:]])
        else:
            yield from roff.paragraph(lines)


def _is_of_options(block: Block) -> bool:
    kind, lines = block
    return kind == "table" and roff.cells(lines[0])[0] == "option"


def _synopsis(lines: list[str]) -> list[str]:
    """Return the lines of a usage without the prompts of a shell, for 80 columns with the margin."""
    return list(usage_lines("\n".join(line.removeprefix("$ ") for line in lines), 72, ""))


def _usage(line: str) -> str:
    """Return a line of a usage. Names of commands and options are bold, those of values are not."""
    words = re.split(r"((?<![\w-])--?[a-zA-Z][\w-]*|^fvd(?: [a-z]+)?)", line)
    return "".join(
        f"\\fB{roff.escaped(it)}\\fP" if index % 2 else roff.escaped(it) for index, it in enumerate(words)
    )


def _see_also(name: str, markdown: str) -> list[str]:
    linked = sorted(set(re.findall(r"\]\(([a-z]+)\.md", markdown)) - {name})
    return ["\\fBfvd\\fP(1)", *(f"\\fBfvd\\-{it}\\fP(1)" for it in linked)]


def _without_empty_paragraphs(lines: list[str]) -> list[str]:
    """Return the lines without a paragraph that begins where a section does."""
    return [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line != ".PP" or before[:3] != ".SH"
    ]
