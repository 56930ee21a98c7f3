"""Sizes in texts, parsed as QEMU parses them. `fvd.options` exports these names."""

from __future__ import annotations

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


DIGITS = "0123456789"
HEXADECIMAL_DIGITS = DIGITS + "abcdefABCDEF"
_SUFFIXES = "bkmgtpe"


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
    unsigned = stripped.removeprefix("+")
    if unsigned[:2] in ("0x", "0X") and consists_of(HEXADECIMAL_DIGITS, unsigned[2:]):
        return _in_range(text, int(unsigned[2:], 16))
    if stripped[:1] == "-" and consists_of(DIGITS, stripped[1:]):
        raise SizeRangeError(text)
    number, shift = _split_unit(unsigned)
    whole, _, fraction = number.partition(".")
    if not consists_of(DIGITS, whole + fraction) or (shift == 0 and fraction.strip("0")):
        raise SizeSyntaxError(text)
    significant = whole.lstrip("0") or "0"
    if len(significant) > 20 or int(significant) >= 2**64:
        # QEMU does not parse the text after a number that is too large.
        raise SizeRangeError(text) if unsigned == whole else SizeSyntaxError(text)
    return _in_range(text, (int(significant) << shift) + _scale(fraction, shift))


def consists_of(letters: str, text: str) -> bool:
    """Tell whether `text` is one or more of `letters`, and nothing else.

    Regular expressions would be shorter, but importing `re` takes as long as a whole short command.
    """
    return text != "" and not text.strip(letters)


def _split_unit(text: str) -> tuple[str, int]:
    """Return `text` without its suffix, and the unit as a number of bits: `("1.5", 10)` for `1.5K`."""
    suffix = text[-1:]
    if not consists_of(_SUFFIXES + _SUFFIXES.upper(), suffix):
        return text, 0
    return text[:-1], 10 * _SUFFIXES.index(suffix.lower())


def _scale(fraction: str, shift: int) -> int:
    """Return the bytes in `fraction` (the digits after the point) of a unit of `1 << shift`, with QEMU's
    precision. Half a byte rounds up.
    """
    scaled = float(f"0.{fraction}") * (1 << shift)
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
