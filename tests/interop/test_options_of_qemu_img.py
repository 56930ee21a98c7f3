"""Every command and option of the installed qemu-img works in fvd, or is refused by name with what to do."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from fvd.cli import _not_here, main
from fvd.cli._arguments import Parser, UsageError
from fvd.cli._common import CommandError
from support import fvd_command, run

OPTION = re.compile(
    r"^ +(?P<flags>-{1,2}[A-Za-z][\w-]*(?:, *-{1,2}[A-Za-z][\w-]*)*)(?P<value> \S+)?", re.MULTILINE
)


def commands_of_qemu_img() -> list[str]:
    """The commands of the installed version."""
    said = run("qemu-img", "--help").stdout.decode()
    block = said.partition("Recognized commands")[2].partition("Supported image formats")[0]
    found = re.findall(r"^  (\w+) - ", block, re.MULTILINE)
    assert len(found) > 12
    return found


def options_of(command: str) -> list[tuple[str, bool]]:
    """The options of a command: a flag, and whether the help shows a value after it."""
    said = run("qemu-img", command, "--help").stdout.decode().partition("Arguments:")[2]
    # The help of amend writes it with one s.
    said = re.sub(r"--progre\w+\n", "--progress\n", said)
    return [
        (flag, found["value"] is not None)
        for found in OPTION.finditer(said)
        for flag in re.split(", *", found["flags"])
    ]


HERE = [command for command in commands_of_qemu_img() if command in main.COMMANDS]
OPTIONS = [(command, flag, has_value) for command in HERE for flag, has_value in options_of(command)]


def test_the_help_of_qemu_img_was_understood() -> None:
    assert len(OPTIONS) > 100
    assert {("convert", "-O", True), ("convert", "--salvage", False), ("bench", "--aio", True)} <= set(
        OPTIONS
    )


@pytest.mark.parametrize("command", commands_of_qemu_img())
def test_each_command_is_here_or_refused_with_an_alternative(command: str) -> None:
    if command in main.COMMANDS:
        return
    said = fvd_command(command, ok=(1,)).stderr.decode()
    assert re.match(rf"fvd: Command not found: {command} \(.{{10,}}\)\n", said)


def parser(command: str) -> Parser:
    made: Parser = import_module(f"fvd.cli.{command}").parser()
    return made


@pytest.mark.parametrize(("command", "flag", "has_value"), OPTIONS)
def test_each_option_is_here_or_refused_with_an_alternative(command: str, flag: str, has_value: bool) -> None:
    if flag in ("-h", "--help"):
        return
    words = [flag, "1", "2"]
    if flag in _not_here.refused_options(command):
        with pytest.raises(CommandError, match=rf"^{flag} is not here: .{{10}}"):
            parser(command).parse(words, 0, 9, "?")
        return
    given = parser(command).parse(words, 0, 9, "?")
    # Some lines of the help do not show that a value follows.
    assert given.files in (["2"], ["1", "2"])
    assert not (has_value and given.files == ["1", "2"]), f"{flag} takes no value here"


def test_nothing_is_refused_that_is_here() -> None:
    for command in main.COMMANDS:
        for flag in _not_here.refused_options(command):
            assert parser(command).find(flag) is None, f"{command} {flag}"
    assert not set(_not_here.COMMANDS) & set(main.COMMANDS)


def test_an_option_that_is_cut_short_is_refused_too() -> None:
    for flag in ("--obj", "--object=secret,id=x"):
        said = fvd_command("info", flag, "x", ok=(1,)).stderr.decode()
        assert said.startswith(f"fvd: {flag.partition('=')[0]} is not here: fvd reads no encrypted images")
    with pytest.raises(UsageError, match="unrecognized option '--objects'"):
        parser("info").parse(["--objects"], 0, 9, "?")
