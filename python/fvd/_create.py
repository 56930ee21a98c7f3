"""`fvd.create`, and what other functions that create images share with it."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fvd._remote import Remote
    from fvd.types import CreateResult, Format, ImageOptions, OptionValue, StrPath, TargetFormat


def create(
    path: StrPath,
    size: int | str | None = None,
    *,
    format: TargetFormat = "fvd",
    backing_file: StrPath | None = None,
    backing_format: Format | None = None,
    backing_unsafe: bool = False,
    options: ImageOptions | None = None,
    force: bool = False,
    trust: Sequence[StrPath] = (),
    remote: Remote | None = None,
) -> CreateResult:
    """Create an image. Replaces an existing file.

    `size` is in bytes, or a string such as `"20G"`. It is rounded up to a multiple of 512, and can be 0.
    Without it, the image is as large as its base. `options` are those of `fvd create -o help` (see
    `fvd.types.ImageOptions`), without `size`, `backing_file` and `backing_fmt`, which are arguments here.
    String values are parsed as there. `backing_file` is stored as given; a relative name is looked up from
    the directory of the image. With `backing_unsafe` the base is not opened,
    and `size` is required. An existing data file (the option `data_file`) that is not empty is refused
    without `force`. `remote` gives credentials and URLs for a base on another machine (see `Remote`). If the
    call fails, or if a signal raises an exception, a new file is removed.

    Warns (`UserWarning`) about a base without `backing_format`, and about an image that cannot be opened
    without `trust`. Raises `ValueError` for invalid options, and without `size` if there is no base to take
    it from; `InUseError` if a process has the existing file open; `NoSpaceError` if there is no room for the
    metadata; `IoError` if the base cannot be opened or the file cannot be made.

    ```pycon
    >>> thin = fvd.create("thin.fvd", "20G", options={"compact_image": True, "chunk_size": "64K"})
    >>> thin["size"], thin["options"]["chunk_size"]
    (21474836480, 65536)
    >>> fvd.create("top.fvd", backing_file="base.raw", backing_format="raw")["size"]
    1048576
    ```
    """
    from fvd import _advice

    _advice.warn_of_format(backing_file, backing_format)
    result = _core.create(
        path,
        _size(size),
        format=format,
        backing_file=name_of(backing_file),
        backing_format=backing_format,
        backing_unsafe=backing_unsafe,
        options=core_options(options, format),
        force=force,
        trust=trust,
        remote=remote,
    )
    _advice.warn_of_names(path, result["needs_trust"])
    return result


def core_options(options: ImageOptions | None, format: str) -> Mapping[str, OptionValue]:
    """Return the options of a new image in the form that the core accepts."""
    if not options:
        return {}
    from fvd.options import normalise

    return normalise(options, format)


def _size(size: int | str | None) -> int | None:
    if not isinstance(size, str):
        return size
    from fvd.options import size_argument

    return size_argument("image size", size)
