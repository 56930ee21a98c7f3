"""Prefetch profiles as files, to carry them from one image to others.

A file is JSON: an object with `fvd-profile` (the version of this format, 1), `disk-size` and `unit` of the
image it comes from, in bytes, and `entries`. This is a list of pairs of offset and length, in bytes of the
disk, in the order in which they are fetched.
"""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import Profile, StrPath

VERSION = 1
MAX_FILE_SIZE = 128 << 20
"""In bytes. The largest profile that an image has room for makes a file of half this size."""
_MAX_OFFSET = 2**63 - 1


def write_file(path: StrPath, profile: Profile) -> None:
    """Write `profile` to a file. Replaces an existing profile as a whole, or changes nothing.

    Raises `ValueError` if the file is something else, so that a mistyped name cannot destroy a disk.
    """
    name = os.fsdecode(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "w", encoding="ascii") as stream:
            stream.write(to_text(profile))
        return
    if os.path.isfile(path):
        with open(path, "rb") as there:
            head = there.read(256)
        if head and b'"fvd-profile"' not in head:
            raise ValueError(f"{name}: the file exists and is no prefetch profile, so it is not overwritten")
    # If the name is a symbolic link, the file that it points to is replaced.
    target = os.path.realpath(name)
    new = f"{target}.{os.getpid()}.new"
    file = open(new, "x", encoding="ascii")  # noqa: SIM115
    try:
        with file:
            file.write(to_text(profile))
        os.replace(new, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def read_file(path: StrPath) -> list[tuple[int, int]]:
    """Return the entries in a file. Raises `ValueError` if it is not a profile."""
    name = os.fsdecode(path)
    with open(path, "rb") as file:
        text = file.read(MAX_FILE_SIZE + 1)
    if len(text) > MAX_FILE_SIZE:
        raise _refused(name, f"it has more than {MAX_FILE_SIZE} bytes")
    return from_text(text, name)


def to_text(profile: Profile) -> str:
    """Return the text of a file, with one entry on each line."""
    head = f'"fvd-profile": {VERSION}, "disk-size": {profile["virtual-size"]}, "unit": {profile["unit"]}'
    entries = ",".join(f"\n[{offset}, {length}]" for offset, length in profile["entries"])
    return f'{{{head}, "entries": [{entries}\n]}}\n'


def from_text(text: str | bytes, name: str) -> list[tuple[int, int]]:
    """Return the entries in the text of a file; `name` is for the error message.

    Raises `ValueError` if it is not a profile.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _refused(name, "it is not JSON") from None
    if not isinstance(document, dict) or "fvd-profile" not in document:
        raise _refused(name, "'fvd-profile' is missing")
    version = document["fvd-profile"]
    if type(version) is not int or version != VERSION:
        raise _refused(name, f"its version is {version!r:.40}, only {VERSION} is known")
    entries = document.get("entries")
    if not isinstance(entries, list):
        raise _refused(name, "'entries' is not a list")
    return [_entry(entry, number, name) for number, entry in enumerate(entries)]


def _entry(entry: object, number: int, name: str) -> tuple[int, int]:
    match entry:
        case [int(offset), int(length)] if _is_size(offset) and _is_size(length):
            return offset, length
    raise _refused(name, f"entry {number} is {entry!r:.40}, not an offset and a length in bytes")


def _is_size(number: int) -> bool:
    return not isinstance(number, bool) and 0 <= number <= _MAX_OFFSET


def _refused(name: str, why: str) -> ValueError:
    return ValueError(f"{name}: not a prefetch profile: {why}")
