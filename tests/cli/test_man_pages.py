"""The man pages: one for each command, without mistakes, with every option, and installed."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest

from fvd.cli import main
from scripts import generated
from scripts.man_pages import roff
from support import REPOSITORY, fvd_command, run

FOLDER = generated.SHARE / "man" / "man1"
# The text of a page depends on nothing else, so there is no date that would be true.
ACCEPTED = re.compile(r'WARNING: missing date, using "": TH')


@functools.cache
def shown(name: str) -> str:
    """The page as people see it on a terminal of 80 columns."""
    environment = {"MANWIDTH": "80", "MAN_KEEP_FORMATTING": "", "GROFF_NO_SGR": "1", "MANPAGER": "cat"}
    text = run("man", "--no-hyphenation", "--no-justification", "-l", FOLDER / name, env=environment)
    return re.sub(".\b", "", text.stdout.decode())


@pytest.mark.parametrize("page", ["fvd.1", *(f"fvd-{command}.1" for command in main.COMMANDS)])
def test_mandoc_and_man_find_no_mistake(page: str) -> None:
    found = (
        run("mandoc", "-T", "lint", "-W", "warning", FOLDER / page, ok=(0, 2, 3)).stdout.decode().splitlines()
    )
    assert [line for line in found if not ACCEPTED.search(line)] == []
    said = run("man", "--warnings=w", "-l", FOLDER / page, env={"MANPAGER": "cat"})
    assert said.stderr == b""


@pytest.mark.parametrize("command", main.COMMANDS)
def test_a_page_has_the_options_and_the_parts_that_people_expect(command: str) -> None:
    page = shown(f"fvd-{command}.1")
    headings = re.findall(r"^([A-Z][A-Z ]+)$", page, re.MULTILINE)
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert {"EXAMPLES", "EXIT STATUS"} <= set(headings)
    assert headings[-1] == "SEE ALSO"
    summary = main.COMMANDS[command]
    one_line = " ".join(page.split())
    assert f"NAME fvd-{command} - {summary[0].lower()}{summary[1:]} SYNOPSIS fvd {command} " in one_line
    for option in set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", help_of(command))) - {"-h", "--help"}:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", page), option


def help_of(command: str) -> str:
    return fvd_command(command, "--help").stdout.decode().partition("\nExamples:\n")[0]


def test_no_markdown_is_left() -> None:
    for page in FOLDER.iterdir():
        text = shown(page.name)
        assert not re.search(r"\]\(|\*\*|^#|^ *\|", text, re.MULTILINE), page.name
        assert "`" not in re.sub(r"^ {11}.*$", "", text, flags=re.MULTILINE), page.name


@pytest.mark.parametrize("command", main.COMMANDS)
def test_a_synopsis_fits_a_terminal_of_80_columns(command: str) -> None:
    synopsis = shown(f"fvd-{command}.1").partition("SYNOPSIS\n")[2].partition("\nDESCRIPTION")[0]
    assert [line for line in synopsis.splitlines() if len(line) > 80] == []


def test_the_page_of_the_program_names_all_commands() -> None:
    text = shown("fvd.1")
    for command, summary in main.COMMANDS.items():
        assert re.search(rf"^ +fvd-{command}\(1\)$", text, re.MULTILINE)
        assert summary in " ".join(text.split())


def test_every_page_in_docs_has_a_man_page() -> None:
    pages = {path.stem for path in (REPOSITORY / "docs" / "cli").glob("*.md")}
    assert {path.stem for path in FOLDER.iterdir()} == {"fvd", *(f"fvd-{page}" for page in pages)}


def test_pages_and_completions_are_installed_with_the_package() -> None:
    for name, text in generated.files().items():
        installed = Path(sys.prefix) / "share" / name
        assert installed.exists(), f"{installed}: 'make build' installs it"
        assert installed.read_text() == text, f"{installed} is not that of these sources: 'make build'"


def test_text_is_not_taken_for_requests_of_roff() -> None:
    assert roff.inline(".fvd is a *suffix*") == "\\&.fvd is a \\fIsuffix\\fP"
    assert roff.inline("`a\\b` - [text](#here), [fvd map](map.md), [it](map.md#x)") == (
        "\\fBa\\eb\\fP \\- text, \\fBfvd\\-map\\fP(1), it (\\fBfvd\\-map\\fP(1))"
    )
    assert roff.cells("| `a\\|b` | c |") == ["`a|b`", "c"]
