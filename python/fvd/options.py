"""Option strings and sizes, parsed as QEMU parses them.

In `a=b,c=d`, `,,` inside a value is a comma, `flag` alone is on, `noflag` is off, and the last of several
values applies. Sizes are `1.5G`, `512K`, `0x1000`: see `parse_size`.

```pycon
>>> from fvd.options import parse_options
>>> parse_options(["compact_image,chunk_size=64K"], "fvd")
{'compact_image': True, 'chunk_size': 65536}
```
"""

from __future__ import annotations

import os

from fvd import _fvd as _core
from fvd._disks import name_of
from fvd._public import publish as _publish
from fvd._sizes import (
    DIGITS,
    HEXADECIMAL_DIGITS,
    MAX_SIZE,
    SIZE_HELP,
    SPACE,
    SizeRangeError,
    SizeSyntaxError,
    consists_of,
    parse_size,
    size_argument,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from fvd.types import OptionValue

    Kind = Literal["str", "file", "bool", "switch", "size", "number", "signed size"]

__all__ = [
    "FVD_OPTIONS",
    "MAX_SIZE",
    "OPTIONS",
    "SIZE_HELP",
    "Option",
    "OptionError",
    "SizeRangeError",
    "SizeSyntaxError",
    "escape",
    "join_options",
    "normalise",
    "normalise_known",
    "options_help",
    "parse_bool",
    "parse_known",
    "parse_options",
    "parse_size",
    "size_argument",
    "split_options",
    "wants_help",
]


class OptionError(ValueError):
    """An option string or a value in it is wrong; the message is that of QEMU.

    ```pycon
    >>> parse_options(["compact_image=perhaps"], "fvd")
    Traceback (most recent call last):
    fvd.options.OptionError: Parameter 'compact_image' expects 'on' or 'off'
    ```
    """


class Option:
    """An option that can be set when an image is created, or changed later.

    ```pycon
    >>> option = Option("chunk_size", "size", "Unit of allocation", "bytes, from 1; default: 1M")
    >>> option.name, option.kind, option.parse("64K")
    ('chunk_size', 'size', 65536)
    ```
    """

    __slots__ = ("description", "kind", "limits", "name")

    def __init__(self, name: str, kind: Kind, description: str, limits: str = "") -> None:
        """Describe the option `name`. `limits` are its unit, its range, and its default in a new image."""
        self.name = name
        self.kind = kind
        self.description = description
        self.limits = limits

    @property
    def is_bool(self) -> bool:
        """Whether its values are on and off. A switch also accepts 1 and 0.

        ```pycon
        >>> Option("copy_on_read", "switch", "").is_bool
        True
        ```
        """
        return self.kind in ("bool", "switch")

    @property
    def is_text(self) -> bool:
        """Whether its values are texts: words, or file names.

        ```pycon
        >>> Option("data_file", "file", "").is_text
        True
        ```
        """
        return self.kind in ("str", "file")

    def parse(self, text: str) -> OptionValue:
        """Return the value that `text` stands for.

        Sizes are in bytes; a number is in the unit of the option. The range of the option is checked only
        where the option is used: here a size is at most `MAX_SIZE`, and a number at most that in magnitude.
        Raises `OptionError` for any other text.

        ```pycon
        >>> Option("journal_size", "signed size", "").parse("-1")
        -1
        ```
        """
        if self.kind == "switch" and text in ("0", "1"):
            return text == "1"
        if self.is_bool:
            return parse_bool(self.name, text)
        if self.kind == "number":
            return _parse_number(self.name, text)
        if self.is_text:
            return text
        return _parse_size_option(self.name, text, signed=self.kind == "signed size")

    def help(self) -> str:
        """Return the line about this option in the output of `-o help`.

        ```pycon
        >>> print(Option("size", "size", "Virtual disk size").help())
          size=<size>            - Virtual disk size
        ```
        """
        shown = (
            "bool (on/off)"
            if self.is_bool
            else {"number": "num", "signed size": "size", "file": "str"}.get(self.kind, self.kind)
        )
        limits = f" ({self.limits})" if self.limits else ""
        return f"  {f'{self.name}=<{shown}>':<22} - {self.description}{limits}"


FVD_OPTIONS = tuple(Option(*row) for row in _core.create_options())
"""The options of a new FVD image, in the order of `fvd create -o help`.

```pycon
>>> [option.name for option in FVD_OPTIONS if option.kind == "bool"]
['compact_image', 'copy_on_read', 'generate_prefetch_profile']
```
"""

OPTIONS: dict[str, tuple[Option, ...]] = {
    "fvd": FVD_OPTIONS,
    "raw": tuple(option for option in FVD_OPTIONS if option.name == "size"),
}
"""The options of every format that can be created.

```pycon
>>> [option.name for option in OPTIONS["raw"]]
['size']
```
"""


def parse_options(texts: Sequence[str], format: str) -> dict[str, OptionValue]:
    """Return the values that the `-o` strings `texts` give to options of `format`.

    Raises `OptionError` at the first one that is unknown or wrong, and `KeyError` for a format that cannot be
    created.

    ```pycon
    >>> parse_options(["block_size=64K,nocopy_on_read", "block_size=4K"], "fvd")
    {'copy_on_read': False, 'block_size': 4096}
    ```
    """
    return parse_known(texts, {option.name: option for option in OPTIONS[format]})


def parse_known(texts: Sequence[str], known: Mapping[str, Option]) -> dict[str, OptionValue]:
    """Return the values that the `-o` strings `texts` give to the options `known`, in the order of the last
    use.

    Raises `OptionError` at the first one that is unknown or wrong.

    ```pycon
    >>> parse_known(["size=1M"], {"size": OPTIONS["raw"][0]})
    {'size': 1048576}
    ```
    """
    for text in texts:
        _check_list(text)
    values: dict[str, OptionValue] = {}
    for text in texts:
        for name, value in split_options(text):
            if value is None and name not in known and name.startswith("no"):
                name, value = name[2:], "off"
            if name not in known:
                raise OptionError(f"Invalid parameter '{name}'")
            values.pop(name, None)
            values[name] = known[name].parse("on" if value is None else value)
    return values


def normalise(options: Mapping[str, object], format: str) -> dict[str, OptionValue]:
    """Return `options`, with string values parsed as on the command line.

    Raises `OptionError` for an unknown name or a value of the wrong type.

    ```pycon
    >>> normalise({"chunk_size": "64K", "compact_image": True}, "fvd")
    {'chunk_size': 65536, 'compact_image': True}
    ```
    """
    return normalise_known(options, {option.name: option for option in OPTIONS.get(format, ())})


def normalise_known(options: Mapping[str, object], known: Mapping[str, Option]) -> dict[str, OptionValue]:
    """Return `options`, with string values parsed as on the command line. All must be in `known`.

    Raises `OptionError` for an unknown name or a value of the wrong type.

    ```pycon
    >>> normalise_known({"size": "1M"}, {"size": OPTIONS["raw"][0]})
    {'size': 1048576}
    ```
    """
    values: dict[str, OptionValue] = {}
    for name, value in options.items():
        if name not in known:
            raise OptionError(f"Invalid parameter '{name}'")
        option = known[name]
        if option.kind == "file" and isinstance(value, os.PathLike):
            value = name_of(value)
        if isinstance(value, str):
            value = option.parse(value)
        elif not isinstance(value, int) or isinstance(value, bool) != option.is_bool or option.is_text:
            raise OptionError(f"Parameter '{name}' does not accept {value!r}")
        values[name] = value
    return values


def wants_help(texts: Iterable[str]) -> bool:
    """Tell whether one of the `-o` strings asks for the list of options.

    ```pycon
    >>> wants_help(["block_size=4K,help"]), wants_help(["data_file=help"])
    (True, False)
    ```
    """
    return any(
        value is None and name in ("help", "?") for text in texts for name, value in split_options(text)
    )


def options_help(format: str) -> str:
    """Return the output of `-o help`. Raises `KeyError` for a format that cannot be created.

    ```pycon
    >>> print(options_help("raw"), end="")
    Supported raw options:
      size=<size>            - Virtual disk size
    ```
    """
    lines = [f"Supported {format} options:", *(option.help() for option in OPTIONS[format])]
    return "\n".join(lines) + "\n"


def split_options(text: str) -> list[tuple[str, str | None]]:
    """Return the names in `text` with their values. The value is None for a name without `=`.

    ```pycon
    >>> split_options("data_file=a,,b,copy_on_read")
    [('data_file', 'a,b'), ('copy_on_read', None)]
    ```
    """
    found: list[tuple[str, str | None]] = []
    rest = text
    while rest:
        before_equals, equals, after_equals = rest.partition("=")
        if not equals or "," in before_equals:
            name, _, rest = rest.partition(",")
            found.append((name, None))
            continue
        value, rest = _split_value(after_equals)
        found.append((before_equals, value))
    return found


def _split_value(text: str) -> tuple[str, str]:
    """Return the value at the start of `text`, in which `,,` is a comma, and what follows its end."""
    value = ""
    while True:
        part, _, text = text.partition(",")
        value += part
        if not text.startswith(","):
            return value, text
        value, text = value + ",", text[1:]


def join_options(options: Iterable[tuple[str, OptionValue]]) -> str:
    """Return an option string from which `split_options` gives `options` again, as texts.

    ```pycon
    >>> join_options([("data_file", "a,b"), ("copy_on_read", True)])
    'data_file=a,,b,copy_on_read=on'
    ```
    """
    return ",".join(f"{name}={escape(value)}" for name, value in options)


def escape(value: OptionValue) -> str:
    """Return `value` in the form that an option string requires.

    ```pycon
    >>> escape("a,b"), escape(False), escape(4096)
    ('a,,b', 'off', '4096')
    ```
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def _check_list(text: str) -> None:
    trailing_commas = len(text) - len(text.rstrip(","))
    if not text or text.startswith(",") or trailing_commas % 2:
        raise OptionError(f"Invalid option list: {text}")


def parse_bool(name: str, text: str) -> bool:
    """Return the boolean that `text` stands for.

    Accepts only the words that QEMU accepts: on, yes, true, y, off, no, false, n. Raises `OptionError`, with
    `name` in its message, for any other.

    ```pycon
    >>> parse_bool("copy_on_read", "on"), parse_bool("copy_on_read", "n")
    (True, False)
    ```
    """
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    raise OptionError(f"Parameter '{name}' expects 'on' or 'off'")


def _parse_number(name: str, text: str) -> int:
    """Return a signed number. As in C, a leading 0 means octal and 0x hexadecimal."""
    text = text.lstrip(SPACE)
    digits = text[1:] if text.startswith(("+", "-")) else text
    base, allowed = 10, DIGITS
    if digits.startswith(("0x", "0X")):
        base, allowed, digits = 16, HEXADECIMAL_DIGITS, digits[2:]
    elif digits.startswith("0"):
        base, allowed = 8, "01234567"
    if not consists_of(allowed, digits):
        raise OptionError(f"Parameter '{name}' expects a number")
    # Python refuses to convert very long decimal numbers, all of which are out of range.
    value = int(digits, base) if len(digits.lstrip("0")) <= 30 else MAX_SIZE + 1
    if value > MAX_SIZE:
        raise OptionError(f"Value '{text}' is too large for parameter '{name}'")
    return -value if text.startswith("-") else value


def _parse_size_option(name: str, text: str, *, signed: bool) -> int:
    bare = text.lstrip(SPACE)
    negative = signed and bare.startswith("-") and bare[1:2] not in ("", "+", "-", *SPACE)
    try:
        value = parse_size(bare[1:] if negative else text)
    except SizeRangeError:
        raise OptionError(f"Value '{text}' is out of range for parameter '{name}'") from None
    except SizeSyntaxError:
        wanted = "number" if signed else "non-negative number"
        raise OptionError(f"Parameter '{name}' expects a {wanted} below 2^63\n{SIZE_HELP}") from None
    return -value if negative else value


_publish(globals())
