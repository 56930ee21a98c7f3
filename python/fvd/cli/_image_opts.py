"""`--image-opts`: a disk in the syntax of QEMU, as far as it can be served."""

from __future__ import annotations

from fvd.cli._common import READABLE, CommandError
from fvd.options import OptionError, parse_size, split_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Described(TypedDict):
        """The file to open, and the part of it to serve."""

        path: str
        format: str
        offset: int
        size: int | None


_FILES = ("file", "host_device")
_INSTEAD = {
    "read-only": "-r",
    "discard": "--discard",
    "detect-zeroes": "--detect-zeroes",
    "aio": "--aio",
    "cache.direct": "--cache",
    "cache.no-flush": "--cache",
    "force-share": "-U",
}
"""Options of QEMU with their names here. They may have the prefix `file.`."""


def parse(text: str) -> Described:
    """Return what `text` describes, such as `driver=raw,file.driver=file,file.filename=NAME`."""
    given: dict[str, str] = {}
    for name, value in split_options(text):
        if value is None or not name:
            raise CommandError(f"--image-opts: '{name}' has no value")
        given[name] = value
    driver = given.pop("driver", None)
    if driver in _FILES:
        # A file without a format driver is a raw disk.
        return _described("raw", given.pop("filename", None), given)
    if driver is None:
        raise CommandError("--image-opts: there is no 'driver': fvd, raw or qcow2")
    if driver not in READABLE:
        raise CommandError(f"--image-opts: driver '{driver}' is not served: fvd, raw or qcow2 are")
    protocol = given.pop("file.driver", "file")
    if protocol not in _FILES:
        raise CommandError(f"--image-opts: file.driver '{protocol}' is not served: a file or host_device is")
    return _described(driver, given.pop("file.filename", None), given)


def _described(format: str, path: str | None, given: dict[str, str]) -> Described:
    offset = _size("offset", given.pop("offset", "0")) if format == "raw" else 0
    size = _size("size", given.pop("size")) if format == "raw" and "size" in given else None
    for name in given:
        instead = _INSTEAD.get(name.removeprefix("file."))
        hint = f": use {instead}" if instead else ""
        raise CommandError(f"--image-opts: '{name}' is not known here{hint}")
    if not path:
        raise CommandError("--image-opts: no file is named (file.filename=NAME)")
    return {"path": path, "format": format, "offset": offset, "size": size}


def _size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except (ValueError, OptionError):
        raise CommandError(f"--image-opts: '{name}' is no size: {text}") from None
