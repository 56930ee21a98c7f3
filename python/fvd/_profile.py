"""Prefetch profiles: setting and exporting them, and the files that carry profiles between images.

A file is JSON: an object with `fvd-profile` (the version of this format, 1), `disk-size` and `unit` of the
image it comes from, in bytes, and `entries`. This is a list of pairs of offset and length, in bytes of the
disk, in the order in which they are fetched.
"""

from __future__ import annotations

import os

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import ImportedProfile, Profile, StrPath

VERSION = 1
MAX_FILE_SIZE = 128 << 20
"""In bytes. The largest profile that an image has room for makes a file of half this size."""
_MAX_OFFSET = 2**63 - 1


def export_profile(path: StrPath, target: StrPath, *, force_share: bool = False) -> Profile:
    """Write the prefetch profile of an image to the file `target`, and return it.

    The file is a small JSON text, which `import_profile` can give to other images with the same base. Raises
    `ValueError` if `target` exists and is not a profile, and an `OSError` that is no `FvdError` if it cannot
    be written.

    ```pycon
    >>> fvd.export_profile("overlay.fvd", "base.profile")["entries"]
    []
    ```
    """
    exported = _core.profile(path, force_share=force_share)
    write_file(target, exported)
    return exported


def import_profile(path: StrPath, source: StrPath) -> ImportedProfile:
    """Set the prefetch profile of an image from the file `source`. Replaces its present profile.

    Entries are cut to the disk of the image and to its room for a profile, which is reserved when the image
    is created (`prefetch_profile_size`). Raises `ValueError`, and changes nothing, if the image has no such
    room or if the file is not a profile; an `OSError` that is no `FvdError` if the file cannot be read; and
    `InUseError` if another process has the image open.

    ```pycon
    >>> text = '{"fvd-profile": 1, "entries": [[65536, 8192], [0, 100]]}'
    >>> with open("base.profile", "w") as file:
    ...     characters = file.write(text)
    >>> options = {"prefetch_profile_size": "4K"}
    >>> made = fvd.create("next.fvd", backing_file="base.raw", backing_format="raw", options=options)
    >>> fvd.import_profile("next.fvd", "base.profile")
    {'entries': 2, 'bytes': 12288, 'beyond_disk': 0, 'no_room': 0}
    ```
    """
    return _core.set_profile(path, read_file(source))


def clear_profile(path: StrPath) -> None:
    """Remove the prefetch profile of an image. The next session records a new one, if the image has that
    option.

    Does nothing if there is none. Raises `InUseError` if another process has the image open, and
    `InvalidImageError` if the file is not an FVD image.

    ```pycon
    >>> fvd.clear_profile("overlay.fvd")
    >>> fvd.profile("overlay.fvd")["entries"]
    []
    ```
    """
    _core.set_profile(path, ())


def write_file(path: StrPath, profile: Profile) -> None:
    """Write `profile` to a file. Replaces an existing profile as a whole, or changes nothing.

    Raises `ValueError` if the file is something else, so that a mistyped name cannot destroy a disk.
    """
    import contextlib

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
    try:
        file = open(new, "x", encoding="ascii")  # noqa: SIM115
        try:
            with file:
                file.write(to_text(profile))
            os.replace(new, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        # The caller does not know the name of the new file.
        raise OSError(error.errno, error.strerror, name) from None


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
    # The module costs time at the start of every command.
    import json

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
