"""Output to stdout and stderr, and its format."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO


def prepare() -> None:
    """Write file names that are not valid text as the bytes that they are."""
    import io

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def write(text: str) -> None:
    """Write `text` to stdout unchanged."""
    _write(sys.stdout, text)


_errors_as_json = False


def errors_as_json() -> None:
    """From now on `complain` writes objects."""
    global _errors_as_json
    _errors_as_json = True


def are_errors_json() -> bool:
    """Whether `complain` writes objects."""
    return _errors_as_json


def complain(text: str, facts: Mapping[str, object] | None = None) -> None:
    """Write a line to stderr, after flushing stdout. `facts` are what JSON has in addition to the text."""
    if sys.stdout is not None:
        sys.stdout.flush()
    if _errors_as_json:
        from fvd.cli import _errors_json

        _write(sys.stderr, _errors_json.line(text, facts or {}) + "\n")
    else:
        _write(sys.stderr, printable(text, keep="\n") + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    # A program can be started without stdout or stderr.
    if stream is not None:
        stream.write(text)
        if stream is sys.stderr:
            stream.flush()


class Screen:
    """A stream for progress output. If writing to it fails, it is no longer used, and the command
    continues.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._usable = True

    def show(self, text: str) -> None:
        """Write `text` and flush it."""
        if not self._usable:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # disk full, no reader, closed
            self._usable = False
            _forget(self._stream)


def _forget(stream: TextIO) -> None:
    """Drop what a failed write has left in the buffers, because the next write would fail again."""
    try:
        descriptor = stream.fileno()
        kept = os.dup(descriptor)
    except (OSError, ValueError):  # closed
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        stream.flush()
    except (OSError, ValueError):
        return
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def remark(text: str) -> None:
    """Write `text` about completed work to stdout. A failure to write it is not an error."""
    if sys.stdout is not None:
        Screen(sys.stdout).show(text)


def json_document(value: object) -> str:
    """Return `value` as JSON, with the indentation of qemu-img."""
    import json

    return json.dumps(value, indent=4) + "\n"


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with control characters as `\x1b`: names in an image are untrusted text."""
    if text.isprintable():
        return text
    return "".join(
        f"\\x{ord(letter):02x}" if _is_control(letter) and letter not in keep else letter for letter in text
    )


def _is_control(letter: str) -> bool:
    return letter < " " or "\x7f" <= letter <= "\x9f"


def human_size(count: int) -> str:
    """Return `count` bytes with three digits and a binary unit: `324 KiB`."""
    value, unit = float(count), ""
    for larger in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):
        if float(f"{value:.3g}") < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}B"


def hexadecimal(value: int) -> str:
    """Return `value` as `%#x` in C prints it."""
    return f"{value:#x}" if value else "0"


def nested(fields: Mapping[str, object], indent: int) -> Iterable[str]:
    """Return lines that show `fields`. Nested maps and lists are indented further."""
    return _nested(((name.replace("-", " "), value) for name, value in fields.items()), indent)


def _nested(pairs: Iterable[tuple[str, object]], indent: int) -> Iterable[str]:
    margin = " " * indent
    for name, value in pairs:
        if isinstance(value, dict):
            yield f"{margin}{printable(name)}:"
            yield from nested(value, indent + 4)
        elif isinstance(value, list | tuple):
            yield f"{margin}{printable(name)}:"
            yield from _nested(((f"[{n}]", each) for n, each in enumerate(value)), indent + 4)
        else:
            yield f"{margin}{printable(name)}: {scalar(value)}"


def scalar(value: object) -> str:
    """Return one value in readable form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else printable(str(value))
