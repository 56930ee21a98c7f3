"""Command lines, parsed as getopt does it for qemu-img, with its messages.

Importing `argparse` takes longer than most commands take in all.
"""

from __future__ import annotations

from fvd.cli import _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal

    Takes = Literal["no value", "a value", "a value after ="]


class UsageError(Exception):
    """The command line is wrong. `command` is the one whose help to suggest; empty for that of the
    program.
    """

    def __init__(self, message: str, command: str = "", prefix: str = "fvd") -> None:
        """Print `message` after `prefix`."""
        super().__init__(message)
        self.command = command
        self.prefix = prefix


class Given:
    """A parsed command line: an attribute for each option, and the names of the `files`."""

    files: list[str]

    if TYPE_CHECKING:

        def __getattr__(self, option: str) -> Any: ...


class Option:
    """An option of a command. It sets the attribute `dest` to its value, or to `constant` without one."""

    def __init__(self, dest: str, takes: Takes = "no value", constant: object = True) -> None:
        """Describe an option that `takes` a value or none."""
        self.dest = dest
        self.takes = takes
        self.constant = constant

    def store(self, given: Given, flag: str, value: str | None) -> None:
        """Store what the command line says: `flag`, perhaps with a `value`."""
        setattr(given, self.dest, self.constant if value is None else value)


class _Repeatable(Option):
    """An option with a list of values."""

    def store(self, given: Given, flag: str, value: str | None) -> None:
        setattr(given, self.dest, [*getattr(given, self.dest), value])


class _Printing(Option):
    """An option such as `--help`: prints a text, and nothing else is done."""

    def store(self, given: Given, flag: str, value: str | None) -> None:
        text = self.constant
        _output.write(text() if callable(text) else str(text))
        raise SystemExit(0)


class Parser:
    """A parser for one command: options in any place, and a number of file names."""

    def __init__(self, command: str, summary: str, usage: str) -> None:
        """Create a parser for `command`; `usage` follows the name of the command in the help."""
        self.command = command
        self.summary = summary
        self.usage = usage
        self.entries: list[tuple[str, str]] = []
        """What the help describes: options with their values, and other words, each with its text."""
        self._options: dict[str, Option] = {}
        self._defaults: dict[str, object] = {}
        self.add(_Printing("help", constant=self.format_help), "-h", "--help")
        self.describe("-h, --help", "print this help and exit")

    def option(
        self,
        *flags: str,
        metavar: str,
        help: str,
        dest: str | None = None,
        default: str | None = None,
        repeatable: bool = False,
    ) -> None:
        """Add an option with a value, or with a list of values if it is `repeatable`.

        `dest` is the attribute of the result that it sets, by default named after the first long flag.
        """
        dest = dest or _attribute(flags)
        if repeatable:
            self.add(_Repeatable(dest, "a value"), *flags, default=[])
        else:
            self.add(Option(dest, "a value"), *flags, default=default)
        self.describe(f"{', '.join(flags)} {metavar}", help)

    def switch(
        self,
        *flags: str,
        help: str,
        dest: str | None = None,
        default: object = False,
        constant: object = True,
    ) -> None:
        """Add an option without a value. It sets the attribute to `constant`."""
        self.add(Option(dest or _attribute(flags), constant=constant), *flags, default=default)
        self.describe(", ".join(flags), help)

    def printing(self, *flags: str, text: str, help: str) -> None:
        """Add an option that prints `text` instead of running the command."""
        self.add(_Printing("printed", constant=text), *flags)
        self.describe(", ".join(flags), help)

    def add(self, option: Option, *flags: str, default: object = None) -> None:
        """Add an option without an entry in the help.

        If several options set one attribute, the default of the first applies.
        """
        self._options.update(dict.fromkeys(flags, option))
        self._defaults.setdefault(option.dest, default)

    def find(self, flag: str) -> Option | None:
        """Return the option with that flag."""
        return self._options.get(flag)

    def describe(self, what: str, help: str) -> None:
        """Add an entry to the help."""
        self.entries.append((what, help))

    def flags(self) -> dict[str, Option]:
        """Return all options by their flags."""
        return dict(self._options)

    def format_help(self) -> str:
        """Return the help, in the layout of qemu-img."""
        from fvd.cli import _help

        return _help.of_command(self)

    def parse(self, arguments: list[str], least: int, most: int, expected: str) -> Given:
        """Return the options and, as `files`, the remaining `least` to `most` arguments.

        Raises UsageError, with the message `expected` if there are too few arguments.
        """
        given = Given()
        vars(given).update(self._defaults)
        files: list[str] = []
        words = iter(arguments)
        for word in words:
            if word == "--":
                files += words
            elif word.startswith("--"):
                self._long(given, word, words)
            elif word.startswith("-") and word != "-":
                self._short(given, word, words)
            else:
                files.append(word)
        if len(files) < least:
            raise UsageError(expected, self.command)
        if len(files) > most:
            unexpected = expected if most == least else f"Unexpected argument: {files[most]}"
            raise UsageError(unexpected, self.command)
        given.files = files
        return given

    def _long(self, given: Given, word: str, words: Iterator[str]) -> None:
        """Store the option `word`, with its value from there or from the next of the `words`."""
        name, equals, after = word.partition("=")
        flag = self._complete(name)
        option = self._options[flag]
        if equals and option.takes == "no value":
            raise self._wrong(f"option '{flag}' doesn't allow an argument")
        value = after if equals else None
        if value is None and option.takes == "a value":
            value = next(words, None)
            if value is None:
                raise self._wrong(f"option '{flag}' requires an argument")
        option.store(given, flag, value)

    def _complete(self, name: str) -> str:
        """Return the long flag that `name` is, or that is the only one to begin with it."""
        if name in self._options:
            return name
        flags = [flag for flag in self._options if flag.startswith(name)]
        if not flags:
            self._refuse(name)
            raise self._wrong(f"unrecognized option '{name}'")
        if any(self._options[flag] is not self._options[flags[0]] for flag in flags):
            possible = " ".join(f"'{flag}'" for flag in flags)
            raise self._wrong(f"option '{name}' is ambiguous; possibilities: {possible}")
        return flags[0]

    def _short(self, given: Given, word: str, words: Iterator[str]) -> None:
        """Store the options of which each letter of `word` is one. The last one may take a value."""
        for index, letter in enumerate(word[1:], 2):
            flag = f"-{letter}"
            option = self._options.get(flag)
            if option is None:
                self._refuse(flag)
                raise self._wrong(f"invalid option -- '{letter}'")
            if option.takes == "a value":
                value = word[index:] or next(words, None)
                if value is None:
                    raise self._wrong(f"option requires an argument -- '{letter}'")
                option.store(given, flag, value)
                return
            option.store(given, flag, None)

    def _refuse(self, flag: str) -> None:
        """Raise an error with the alternative if QEMU has the option `flag`."""
        from fvd.cli import _not_here

        _not_here.refuse(self.command, flag)

    def _wrong(self, message: str) -> UsageError:
        return UsageError(message, self.command, f"fvd {self.command}")


def _attribute(flags: tuple[str, ...]) -> str:
    """Return the attribute for an option: `force_share` for `-U` and `--force-share`."""
    name = next(flag for flag in flags if flag.startswith("--"))
    return name.removeprefix("--").replace("-", "_")
