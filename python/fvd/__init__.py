"""Fast Virtual Disk images: create, open, read, write, check and convert.

    with fvd.open("disk.fvd", "r+") as image:
        image.pwrite(b"...", 1 << 20)
        image.flush()

Names found inside an image (its base, its data file) are opened only where they lie in the image's own
directory or below it, and are not hidden there, or in a directory given as `trust=`. Nothing here reads the
environment or a configuration file; only the command line does.

Errors are `FvdError`, an `OSError` with a subclass a kind; misuse is a `ValueError`.
"""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import name_of, of_core
from fvd._fvd import (
    DEBUG_BUILD as _DEBUG_BUILD,
)
from fvd._fvd import (
    FvdError,
    Image,
    InUseError,
    InvalidImageError,
    IoError,
    NoSpaceError,
    NotPermittedError,
    PoisonedError,
    UnsupportedError,
    __version__,
)
from fvd._profile import clear_profile, export_profile, import_profile, profile
from fvd._serve import serve
from fvd._server import Server

# `typing` costs a third of the time that `fvd --version` takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal, Unpack, overload

    from fvd._disks import Disk
    from fvd.types import (
        Attributes,
        CacheMode,
        CheckResult,
        CompareResult,
        ConvertResult,
        CreateResult,
        DetectZeroes,
        Discard,
        DiskStats,
        Dump,
        Extent,
        Format,
        ImageInfo,
        ImageOptions,
        Mode,
        OptionValue,
        Progress,
        Repair,
        StrPath,
        TargetFormat,
    )

__all__ = [
    "FvdError",
    "Image",
    "InUseError",
    "InvalidImageError",
    "IoError",
    "NoSpaceError",
    "NotPermittedError",
    "PoisonedError",
    "Server",
    "UnsupportedError",
    "__version__",
    "amend",
    "check",
    "clear_profile",
    "compare",
    "convert",
    "create",
    "dump",
    "export_profile",
    "import_profile",
    "info",
    "map",
    "open",
    "profile",
    "serve",
    "stats",
]

if _DEBUG_BUILD:
    import warnings

    warnings.warn("fvd: this is a debug build, many times slower than a release build", RuntimeWarning, 2)
    del warnings

_WRITABLE = {"r": False, "rb": False, "r+": True, "r+b": True, "rb+": True}


def _is_writable(mode: str) -> bool:
    if mode not in _WRITABLE:
        raise ValueError(f"invalid mode: {mode!r} (use 'r' or 'r+'; fvd.create() makes a new image)")
    return _WRITABLE[mode]


def open(
    path: StrPath,
    mode: Mode = "r",
    *,
    write_base: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    copy_on_read: bool | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
) -> Image:
    """Open an image; `r` to read, `r+` to read and write (`rb` and `r+b` mean the same).

    `cache` is what QEMU means by it: `writethrough` flushes every write, `unsafe` never syncs, `none` and
    `directsync` bypass the page cache. `copy_on_read` says whether what is read from the base is stored,
    whatever the image says. `force_share`, only for `r`, skips the locks that keep writers apart.

    With `discard="ignore"`, `Image.discard` does nothing, and `Image.zero` gives no space away: what has
    space keeps it, so that a later write finds it. With `detect_zeroes="on"`, writes that are all zeros
    become zeroing that keeps space, with `unmap` zeroing that frees it.

    An image opened with `r+` prefetches in the background when it says so (`prefetch_start_delay`).

    The image belongs to this process. A process that is forked from it gets a `ValueError` for everything but
    `close`, which does nothing there: open after forking.

    An image with the option `write_updates_base_img` is a cache of its base, and writes to it: `r+` then
    needs `write_base=True`, so that no image makes you write to a file by naming it.
    """
    return _core.open(
        path,
        writable=_is_writable(mode),
        write_base=write_base,
        cache=cache,
        discard=discard,
        detect_zeroes=detect_zeroes,
        copy_on_read=copy_on_read,
        force_share=force_share,
        trust=trust,
    )


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
) -> CreateResult:
    """Create an image, in place of any file that is there.

    `size` is in bytes, or a string such as `"20G"`; without it the image is as large as its base. `options`
    are those of `fvd create -o help`; strings in it are read as there. `backing_file` is stored as given and,
    where relative, found from the directory of the image; with `backing_unsafe` it is not opened, and a size
    is needed. A data file (the option `data_file`) that exists and is not empty is refused without `force`. A
    new file is removed when this fails, or when a signal raises an exception.

    Warns of a base without `backing_format`, and of an image that cannot be opened without `trust`.
    """
    from fvd import _advice

    _advice.warn_of_format(backing_file, backing_format)
    result = _create(
        path,
        size,
        format=format,
        backing_file=backing_file,
        backing_format=backing_format,
        backing_unsafe=backing_unsafe,
        options=options,
        force=force,
        trust=trust,
    )
    _advice.warn_of_names(path, result["needs_trust"])
    return result


def _create(
    path: StrPath,
    size: int | str | None,
    *,
    format: TargetFormat,
    backing_file: StrPath | None,
    backing_format: Format | None,
    backing_unsafe: bool,
    options: ImageOptions | None,
    force: bool,
    trust: Sequence[StrPath],
) -> CreateResult:
    """Do what `create` does, and warn of nothing: the command line has words of its own."""
    return _core.create(
        path,
        _size(size),
        format=format,
        backing_file=name_of(backing_file),
        backing_format=backing_format,
        backing_unsafe=backing_unsafe,
        options=_options(options, format),
        force=force,
        trust=trust,
    )


if TYPE_CHECKING:

    @overload
    def info(
        path: StrPath,
        *,
        format: Format | None = ...,
        force_share: bool = ...,
        backing_chain: Literal[False] = ...,
        trust: Sequence[StrPath] = ...,
    ) -> ImageInfo: ...
    @overload
    def info(
        path: StrPath,
        *,
        format: Format | None = ...,
        force_share: bool = ...,
        backing_chain: Literal[True],
        trust: Sequence[StrPath] = ...,
    ) -> list[ImageInfo]: ...
    @overload
    def info(
        path: StrPath,
        *,
        format: Format | None = ...,
        force_share: bool = ...,
        backing_chain: bool,
        trust: Sequence[StrPath] = ...,
    ) -> ImageInfo | list[ImageInfo]: ...


def info(
    path: StrPath,
    *,
    format: Format | None = None,
    force_share: bool = False,
    backing_chain: bool = False,
    trust: Sequence[StrPath] = (),
) -> ImageInfo | list[ImageInfo]:
    """Return what an image says of itself; with `backing_chain` a list that ends with the last base.

    Files that the image names are opened only for `backing_chain`.
    """
    chain = _core.info(path, format=format, force_share=force_share, backing_chain=backing_chain, trust=trust)
    return chain if backing_chain else chain[0]


def stats(path: StrPath, *, force_share: bool = False) -> DiskStats:
    """Return how much of an image is local, and what its sessions have done so far.

    Opens nothing that the image names.
    """
    return _core.stats(path, force_share=force_share)


def check(
    path: StrPath,
    *,
    format: Format | None = None,
    repair: Repair | None = None,
    force_share: bool = False,
    backing_chain: bool = False,
    trust: Sequence[StrPath] = (),
) -> CheckResult:
    """Check the metadata of an image and, with `repair`, put it right: `leaks` only, or `all`.

    Raises UnsupportedError for a format that has nothing to check.
    """
    return _core.check(
        path,
        format=format,
        repair=repair,
        force_share=force_share,
        backing_chain=backing_chain,
        trust=trust,
    )


def amend(
    path: StrPath,
    *,
    format: Format | None = None,
    shrink: bool = False,
    backing_unsafe: bool = False,
    trust: Sequence[StrPath] = (),
    **attributes: Unpack[Attributes],
) -> None:
    """Change what an image says of itself: all of the `attributes`, or none if it fails.

    They are those of `fvd amend -o help`; strings are read as there. Nobody else may have the image open. A
    smaller `size` needs `shrink`. A new `base_img` must have the same content; it, or a new `data_file`, is
    only opened to see that it is there, and with `backing_unsafe` not even that.
    """
    from fvd.amendable import normalise_attributes

    _core.amend(
        path,
        normalise_attributes(attributes),
        format=format,
        shrink=shrink,
        backing_unsafe=backing_unsafe,
        trust=trust,
    )


def map(
    path: StrPath,
    *,
    format: Format | None = None,
    start: int = 0,
    length: int | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
) -> Iterator[Extent]:
    """Return the extents of a disk one after the other: which layer holds each, and where."""
    return iter(
        _core.map(path, format=format, start=start, length=length, force_share=force_share, trust=trust)
    )


def dump(path: StrPath, *, limit: int = 100_000, force_share: bool = False) -> Dump:
    """Return header, table, bitmap, journal and profile as they stand on disk.

    Opens nothing that the image names. Of all but the header at most the first `limit` runs (sectors, of the
    journal; entries, of the profile); `truncated` names those that may have more.
    """
    return _core.dump(path, limit=limit, force_share=force_share)


def compare(
    a: Disk,
    b: Disk,
    *,
    a_format: Format | None = None,
    b_format: Format | None = None,
    strict: bool = False,
    cache: CacheMode = "writeback",
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    progress: Progress | None = None,
) -> CompareResult:
    """Compare what two disks read as.

    Each is a file, or an image that is open. Where one is longer, the rest of it must be zeros; with `strict`
    none may be longer.
    """
    return _core.compare(
        of_core(a),
        of_core(b),
        a_format=a_format,
        b_format=b_format,
        strict=strict,
        cache=cache,
        force_share=force_share,
        trust=trust,
        progress=progress,
    )


def convert(
    source: Disk | int,
    target: StrPath | int,
    *,
    source_format: Format | None = None,
    format: TargetFormat | None = None,
    target_format: TargetFormat | None = None,
    options: ImageOptions | None = None,
    backing_file: StrPath | None = None,
    backing_format: Format | None = None,
    sparse_size: int = 4096,
    no_create: bool = False,
    out_of_order: bool = False,
    force: bool = False,
    target_is_zero: bool = False,
    cache: CacheMode = "unsafe",
    source_cache: CacheMode = "writeback",
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    progress: Progress | None = None,
) -> ConvertResult:
    """Copy a disk into a new image, or with `no_create` into one that exists.

    `format`, `options`, `backing_file` and `force` are those of the new image, as in `create`; it is `raw`
    unless told otherwise. (`target_format` is another name for `format`.) The source is a file, or an image
    that is open: what is written to it meanwhile may be in the copy or not. An `int` is a file descriptor of
    a stream, raw only. Runs of `sparse_size` zeros and more become holes; 0 writes every byte.
    `target_is_zero`, with `no_create`, says that the target reads as zeros, so that none are written.

    A target that was begun is removed when the copy fails, or when `progress` or a signal raises an
    exception. What cannot be removed, a device or a target with `no_create`, is marked as not finished, and
    refused by whatever opens it.
    """
    if format is not None and target_format is not None:
        raise ValueError("format and target_format are the same: give one of them")
    from fvd import _advice

    _advice.warn_of_format(backing_file, backing_format)
    made = format or target_format or "raw"
    return _core.convert(
        source if isinstance(source, int) else of_core(source),
        target,
        source_format=source_format,
        target_format=made,
        options=_options(options, made),
        backing_file=name_of(backing_file),
        backing_format=backing_format,
        sparse_size=sparse_size,
        no_create=no_create,
        out_of_order=out_of_order,
        force=force,
        target_is_zero=target_is_zero,
        cache=cache,
        source_cache=source_cache,
        force_share=force_share,
        trust=trust,
        progress=progress,
    )


def _size(size: int | str | None) -> int | None:
    if not isinstance(size, str):
        return size
    from fvd.options import size_argument

    return size_argument("image size", size)


def _options(options: ImageOptions | None, format: str) -> Mapping[str, OptionValue]:
    if not options:
        return {}
    from fvd.options import normalise

    return normalise(options, format)
