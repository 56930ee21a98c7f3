"""Sizes in texts, parsed as QEMU parses them. `fvd.options` exports these names."""

from __future__ import annotations

import re

MAX_SIZE = 2**63 - 1
"""The largest size and offset in bytes: offsets are signed 64-bit integers.

```pycon
>>> MAX_SIZE == 2**63 - 1
True
```
"""

SIZE_HELP = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta- and exabytes, respectively."
)
"""The second line of the message about a text that is no size, as QEMU has it.

```pycon
>>> print(SIZE_HELP)
Optional suffix k, M, G, T, P or E means ...
```
"""

SPACE = " \t\n\v\f\r"
"""What `strtol` and `strtod` skip before a number."""


class SizeSyntaxError(ValueError):
    """The text is not a size.

    ```pycon
    >>> parse_size("64 KiB")
    Traceback (most recent call last):
    fvd.options.SizeSyntaxError: 64 KiB
    ```
    """


class SizeRangeError(ValueError):
    """The text is a number, but negative or above `MAX_SIZE`.

    ```pycon
    >>> parse_size("8E")
    Traceback (most recent call last):
    fvd.options.SizeRangeError: 8E
    ```
    """


_SUFFIXES = "bkmgtpe"
_HEXADECIMAL = re.compile(r"\+?0[xX]([0-9a-fA-F]+)")
_DECIMAL = re.compile(rf"\+?(?:([0-9]+)(\.[0-9]*)?|(\.[0-9]+))([{_SUFFIXES}{_SUFFIXES.upper()}]?)")
_NEGATIVE = re.compile(r"-[0-9]+")


def parse_size(text: str) -> int:
    """Return the number of bytes that `text` means to QEMU.

    `text` is a decimal number, which may have a fraction and one of the suffixes b, k, M, G, T, P, E in
    either case, or a hexadecimal number without fraction and suffix. A fraction of a byte is rounded if there
    is a suffix for a larger unit, and refused otherwise. The units are powers of 1024. The result is 0 to
    `MAX_SIZE`. Raises `SizeSyntaxError` or `SizeRangeError`.

    ```pycon
    >>> parse_size("1.5G"), parse_size("512k"), parse_size("0x1000")
    (1610612736, 524288, 4096)
    ```
    """
    stripped = text.lstrip(SPACE)
    hexadecimal = _HEXADECIMAL.fullmatch(stripped)
    if hexadecimal:
        return _in_range(text, int(hexadecimal[1], 16))
    decimal = _DECIMAL.fullmatch(stripped)
    if decimal is None:
        if _NEGATIVE.fullmatch(stripped):
            raise SizeRangeError(text)
        raise SizeSyntaxError(text)
    whole, fraction = decimal[1] or "0", decimal[2] or decimal[3] or ""
    shift = 10 * max(0, _SUFFIXES.find(decimal[4].lower())) if decimal[4] else 0
    if shift == 0 and fraction.strip(".0"):
        raise SizeSyntaxError(text)
    significant = whole.lstrip("0") or "0"
    if len(significant) > 20 or int(significant) >= 2**64:
        # QEMU does not parse the text after a number that is too large.
        raise SizeRangeError(text) if stripped.lstrip("+") == whole else SizeSyntaxError(text)
    return _in_range(text, (int(significant) << shift) + _scale(fraction, shift))


def _scale(fraction: str, shift: int) -> int:
    """Return the bytes in `fraction` (`.5`) of a unit of `1 << shift`, with QEMU's precision. Half a byte
    rounds up.
    """
    scaled = float(f"0{fraction}") * (1 << shift)
    return int(scaled) + (scaled - int(scaled) >= 0.5)


def _in_range(text: str, value: int) -> int:
    if value > MAX_SIZE:
        raise SizeRangeError(text)
    return value


def size_argument(what: str, text: str) -> int:
    """Return the size `text` of a command-line argument, in bytes; `what` names it in the `ValueError`.

    ```pycon
    >>> size_argument("image size", "20G")
    21474836480
    >>> size_argument("image size", "-1")
    Traceback (most recent call last):
    ValueError: Invalid image size specified. Must be between 0 and 9223372036854775807.
    ```
    """
    try:
        return parse_size(text)
    except SizeRangeError:
        raise ValueError(f"Invalid {what} specified. Must be between 0 and {MAX_SIZE}.") from None
    except SizeSyntaxError:
        raise ValueError(f"Invalid {what} specified: '{text}'.") from None
