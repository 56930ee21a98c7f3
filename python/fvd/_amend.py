"""`fvd.amend`."""

from __future__ import annotations

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from fvd._remote import Remote
    from fvd.types import Attributes, Format, StrPath


def amend(
    path: StrPath,
    *,
    format: Format | None = None,
    shrink: bool = False,
    backing_unsafe: bool = False,
    trust: Sequence[StrPath] = (),
    remote: Remote | None = None,
    **attributes: Unpack[Attributes],
) -> None:
    """Change attributes of an image: all of the `attributes`, or none if it fails.

    The attributes are those of `fvd amend -o help`; string values are parsed as there. No other process may
    have the image open (`InUseError`). A smaller `size` requires `shrink`. A new `base_img` must have the
    same content. A new `base_img` or `data_file` is opened only to check that it exists; with
    `backing_unsafe` it is not opened at all. A `size` is in bytes or a string, and is rounded up to a
    multiple of 512; the units and ranges of the others are in `fvd amend -o help`. `remote` gives credentials
    and URLs for a base on another machine (see `Remote`).

    Raises `ValueError` for an attribute that is unknown, has a value outside its range or cannot be changed,
    `UnsupportedError` for another format than FVD, and `IoError` if a new file cannot be opened.

    ```pycon
    >>> fvd.amend("disk.fvd", size="80M")
    >>> fvd.amend("disk.fvd", size=64 << 20, shrink=True)
    >>> fvd.info("disk.fvd")["virtual-size"]
    67108864
    ```
    """
    from fvd.amendable import normalise_attributes

    _core.amend(
        path,
        normalise_attributes(attributes),
        format=format,
        shrink=shrink,
        backing_unsafe=backing_unsafe,
        trust=trust,
        remote=remote,
    )
