"""Command lines: argparse, with the behaviour and messages of getopt in qemu-img."""

from __future__ import annotations

import argparse
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class UsageError(Exception):
    """The command line is wrong. `command` is the one whose help to suggest; empty for that of the
    program.
    """

    def __init__(self, message: str, command: str = "", prefix: str = "fvd") -> None:
        """Print `message` after `prefix`."""
        super().__init__(message)
        self.command = command
        self.prefix = prefix


class Parser(argparse.ArgumentParser):
    """A parser for one command: options in any place, and a fixed number of file names."""

    def __init__(self, command: str, summary: str, usage: str) -> None:
        """Create a parser for `command`; `usage` follows the name of the command in the help."""
        super().__init__(prog=f"fvd {command}", usage=usage, add_help=False, formatter_class=_formatter)
        self._command = command
        self._summary = summary
        self._help_lines: list[str] = []
        self.option("-h", "--help", action="help", help="print this help and exit")

    def option(self, *flags: str, help: str, metavar: str | None = None, **settings: Any) -> None:
        """Add an option. It takes a value if it has a `metavar`; otherwise it is a switch."""
        if metavar is None:
            settings.setdefault("action", "store_true")
        self.add_argument(*flags, **settings)
        self.describe(", ".join(flags) + (f" {metavar}" if metavar else ""), help)

    def describe(self, what: str, help: str) -> None:
        """Add an entry to the help."""
        self._help_lines += [f"  {what}", *(f"     {line}" for line in help.splitlines())]

    def format_help(self) -> str:
        """Return the help, in the layout of qemu-img."""
        return (
            f"{self._summary}.  Usage:\n\n  {self.prog} {self.usage}\n\nArguments:\n"
            + "\n".join(self._help_lines)
            + "\n"
        )

    def parse(self, arguments: list[str], least: int, most: int, expected: str) -> argparse.Namespace:
        """Return the options and, as `files`, the remaining `least` to `most` arguments.

        Raises UsageError, with the message `expected` if there are too few arguments.
        """
        options, files = self._split(arguments)
        known, extra = self.parse_known_args(options)
        for index, argument in enumerate(extra):
            if argument.startswith("-") and argument != "-":
                raise self._usage(_unknown_option(argument), of_getopt=True)
            files.insert(index, argument)
        if len(files) < least:
            raise self._usage(expected)
        if len(files) > most:
            raise self._usage(expected if most == least else f"Unexpected argument: {files[most]}")
        known.files = files
        return known

    def _split(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Return options and files. Words after `--`, and values of options, are not options."""
        options: list[str] = []
        rest = iter(arguments)
        for argument in rest:
            if argument == "--":
                break
            wants = self._wants_value(argument)
            value = next(rest, None) if wants else None
            if wants and value is None and not argument.startswith("--"):
                raise self._usage(f"option requires an argument -- '{argument[-1]}'", of_getopt=True)
            if value is not None and value.startswith("-"):
                # In this form argparse does not take the value for an option.
                argument += f"={value}" if argument.startswith("--") else value
            elif value is not None:
                options.append(argument)
                argument = value
            options.append(argument)
        return options, list(rest)

    def _wants_value(self, argument: str) -> bool:
        """Whether the next word is the value of the last option in `argument`."""
        if argument.startswith("--"):
            known = self._option_string_actions
            names = [argument] if argument in known else [it for it in known if it.startswith(argument)]
            return len({id(known[name]) for name in names}) == 1 and _takes(known[names[0]])
        for index, letter in enumerate(argument[1:] if argument.startswith("-") else "", 1):
            option = self._option_string_actions.get(f"-{letter}")
            if option is None:
                return False
            if _takes(option):
                return index == len(argument) - 1
        return False

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Accept `--` as a value, which argparse would leave out."""
        return "--" if _takes(action) and arg_strings == ["--"] else super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with getopt's wording of argparse's `message`."""
        raise self._usage(_in_getopt_words(message), of_getopt=True)

    def _usage(self, message: str, *, of_getopt: bool = False) -> UsageError:
        return UsageError(message, self._command, self.prog if of_getopt else "fvd")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return the formatter that argparse creates for every option. A fixed width avoids importing
    `shutil`.
    """
    return argparse.HelpFormatter(prog, width=80)


def _takes(option: argparse.Action) -> bool:
    """Whether an option takes a value."""
    return option.nargs is None


def _unknown_option(argument: str) -> str:
    if argument.startswith("--"):
        return f"unrecognized option '{argument.partition('=')[0]}'"
    return f"invalid option -- '{argument[1]}'"


def _in_getopt_words(message: str) -> str:
    match = re.fullmatch(r"argument (?:-\w/)?(-\S+): expected one argument", message)
    if match:
        return f"option '{match[1]}' requires an argument"
    match = re.fullmatch(r"argument (?:-\w/)?(-\S+): ignored explicit argument .*", message, re.DOTALL)
    if match:
        return f"option '{match[1]}' doesn't allow an argument"
    match = re.fullmatch(r"ambiguous option: (\S+) could match (.*)", message, re.DOTALL)
    if match:
        names = " ".join(f"'{name}'" for name in match[2].split(", "))
        return f"option '{match[1].partition('=')[0]}' is ambiguous; possibilities: {names}"
    return message
