"""Types that a caller can pass as a disk or as the name of one, and their conversion for the core."""

from __future__ import annotations

import os
import sys

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd import aio as _aio
    from fvd.types import BinaryFile, Source, StrPath

    Disk = StrPath | _core.Image | _aio.Image | Source | BinaryFile
    CoreDisk = StrPath | _core.Image | _core.AsyncImage | _core.Source


def of_core(disk: Disk) -> CoreDisk:
    """Return a disk in the form that the core accepts."""
    # Avoids the slow import: a caller with such an image has already imported the module.
    aio = sys.modules.get("fvd.aio")
    if aio is not None and isinstance(disk, aio.Image):
        core: _core.AsyncImage = disk._image
        return core
    if not is_path(disk) and not isinstance(disk, _core.Image | _core.AsyncImage):
        from fvd import _sources

        if _sources.is_source(disk):
            return _sources.core_source(disk)  # type: ignore[arg-type]
    return disk  # type: ignore[return-value]  # the core rejects anything else


def is_path(disk: object) -> bool:
    """Tell whether `disk` is the name of a file."""
    return isinstance(disk, str | bytes | os.PathLike)


def name_of(file: StrPath | None) -> str | None:
    """Return a name as an image stores it. A path object is always a file name, even if it contains a
    colon.
    """
    if file is None or isinstance(file, str):
        return file
    name = os.fsdecode(file)
    # The part before a colon would be read as a protocol.
    return f"./{name}" if ":" in name.partition("/")[0] else name
