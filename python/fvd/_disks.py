"""What a caller may give as a disk, or as a name for one."""

from __future__ import annotations

import os
import sys

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd import aio as _aio
    from fvd.types import StrPath

    Disk = StrPath | _core.Image | _aio.Image
    CoreDisk = StrPath | _core.Image | _core.AsyncImage


def of_core(disk: Disk) -> CoreDisk:
    """Return a disk as the core knows it."""
    # A caller that has such an image has imported the module already; the import is slow.
    aio = sys.modules.get("fvd.aio")
    if aio is not None and isinstance(disk, aio.Image):
        core: _core.AsyncImage = disk._image
        return core
    return disk  # type: ignore[return-value]  # the core says what is wrong with anything else


def is_path(disk: object) -> bool:
    """Tell whether it is the name of a file."""
    return isinstance(disk, str | bytes | os.PathLike)


def name_of(file: StrPath | None) -> str | None:
    """Return a name as it is stored in an image: a path object is a file, also with a colon in its name."""
    if file is None or isinstance(file, str):
        return file
    name = os.fsdecode(file)
    # What stands before a colon would be a protocol.
    return f"./{name}" if ":" in name.partition("/")[0] else name
