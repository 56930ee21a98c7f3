"""Fast Virtual Disk images: create, open, read, write, check and convert.

```pycon
>>> import fvd
>>> made = fvd.create("disk.fvd", "64M")
>>> with fvd.open("disk.fvd", "r+") as image:
...     image.pwrite(b"hello", 1 << 20)
...     image.flush()
5
```

Sizes, offsets and lengths are in bytes. Reads and writes need no alignment. The largest disk has
2^63 - 512 bytes.

An image can contain names of other files: its base and its data file. These files are opened only if they are
in the image's own directory or below it and not hidden there, or in a directory given as `trust=`. This
package does not read the environment or a configuration file; only the command line does.

Errors are `FvdError`, a subclass of `OSError`, with one subclass for each kind. Every function that opens
a file can raise `IoError`, also if the file does not exist, `InUseError` if another process has a conflicting
lock, and `InvalidImageError` if the file is not a valid image. Functions that open files which an image names
can raise `NotPermittedError`. An invalid argument raises `ValueError`, one of a wrong type `TypeError`. A
number outside its range raises `ValueError` or `OverflowError`. The version of the package is
`fvd.__version__`.

The examples of this reference run as they are in a directory with `base.raw`, a raw disk of 1 MiB that begins
with the word `base`, and two new images:

```pycon
>>> made = fvd.create("disk.fvd", "64M")
>>> made = fvd.create("overlay.fvd", backing_file="base.raw", backing_format="raw")
```

In the examples of the methods of `Image`, `image` is `disk.fvd`, open for reading and writing. In those of
`Server`, `server` serves that image on the Unix socket `nbd.sock`. In those of a module (`fvd.options`,
`fvd.types`), its names have been imported. `python -m asyncio` is an interactive Python that accepts the
`await` of the examples of `fvd.aio`.
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
    check,
    dump,
    map,
    profile,
    stats,
)
from fvd._profile import clear_profile, export_profile, import_profile
from fvd._serve import Server, serve

# Importing `typing` takes a third of the time of `fvd --version`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, Unpack, overload

    from fvd._disks import Disk
    from fvd.types import (
        Attributes,
        CacheMode,
        CompareResult,
        ConvertResult,
        CreateResult,
        DetectZeroes,
        Discard,
        Format,
        ImageInfo,
        ImageOptions,
        Mode,
        OptionValue,
        Progress,
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
    """Open an image: `r` to read, `r+` to read and write (`rb` and `r+b` mean the same).

    `cache` is the same as in QEMU: `writethrough` flushes after every write, `unsafe` never syncs, `none` and
    `directsync` bypass the page cache. `copy_on_read` enables or disables storing what is read from the base;
    without it, the image's own option applies. `force_share`, only for `r`, skips the locks that keep out
    writers.

    With `discard="ignore"`, `Image.discard` does nothing, and `Image.zero` does not free space: allocated
    space stays allocated, so that later writes find it. With `detect_zeroes="on"`, writes of only zeros
    become zeroing that keeps space; with `unmap`, zeroing that frees it.

    An image opened with `r+` prefetches in the background if it has the option `prefetch_start_delay`.

    The image belongs to this process. In a process forked from it, every method raises `ValueError`, except
    `close`, which does nothing there. Open images after forking.

    An image with the option `write_updates_base_img` is a cache of its base, and writes to it. Opening it
    with `r+` requires `write_base=True`, so that an image cannot make the caller write to another file by
    naming it.

    Raises `NotPermittedError` if the image names a file that is not trusted, `InUseError` if another process
    has a conflicting lock, `InvalidImageError` if the file is not a valid FVD image, `IoError` if a file
    cannot be opened, also a directory in `trust`. Raises `ValueError` for an unknown mode, and for
    `force_share` with `r+`.

    ```pycon
    >>> image = fvd.open("overlay.fvd", "r+", copy_on_read=True)
    >>> image.pread(8, 0)
    b'basebase'
    >>> image.close()
    ```
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
    """Create an image. Replaces an existing file.

    `size` is in bytes, or a string such as `"20G"`. It is rounded up to a multiple of 512, and can be 0.
    Without it, the image is as large as its base. `options` are those of `fvd create -o help` (see
    `fvd.types.ImageOptions`), without `size`, `backing_file` and `backing_fmt`, which are arguments here.
    String values are parsed as there. `backing_file` is stored as given; a relative name is looked up from
    the directory of the image. With `backing_unsafe` the base is not opened,
    and `size` is required. An existing data file (the option `data_file`) that is not empty is refused
    without `force`. If the call fails, or if a signal raises an exception, a new file is removed.

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
    """Do what `create` does, without its warnings: the command line prints its own."""
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
    """Return information about an image; with `backing_chain`, a list from the image to its last base.

    Opens files that the image names only with `backing_chain`. Sizes are in bytes. Without `format` the
    format is detected. `force_share` reads without locks, for example an image that is open for writing.

    Raises `InvalidImageError` if the file does not have the given `format`, `UnsupportedError` for a format
    that fvd does not know, and with `backing_chain` `NotPermittedError` if a base is not trusted.

    ```pycon
    >>> info = fvd.info("overlay.fvd")
    >>> info["virtual-size"], info["backing-filename"]
    (1048576, 'base.raw')
    >>> [layer["format"] for layer in fvd.info("overlay.fvd", backing_chain=True)]
    ['fvd', 'raw']
    ```
    """
    chain = _core.info(path, format=format, force_share=force_share, backing_chain=backing_chain, trust=trust)
    return chain if backing_chain else chain[0]


def amend(
    path: StrPath,
    *,
    format: Format | None = None,
    shrink: bool = False,
    backing_unsafe: bool = False,
    trust: Sequence[StrPath] = (),
    **attributes: Unpack[Attributes],
) -> None:
    """Change attributes of an image: all of the `attributes`, or none if it fails.

    The attributes are those of `fvd amend -o help`; string values are parsed as there. No other process may
    have the image open (`InUseError`). A smaller `size` requires `shrink`. A new `base_img` must have the
    same content. A new `base_img` or `data_file` is opened only to check that it exists; with
    `backing_unsafe` it is not opened at all. A `size` is in bytes or a string, and is rounded up to a
    multiple of 512; the units and ranges of the others are in `fvd amend -o help`.

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
    )


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
    """Compare the content of two disks.

    Each is a file, or an open image. If one disk is longer, the rest of it must be zeros; with `strict` both
    must have the same length, and the same ranges allocated. Without a format, that of a file is detected.
    `cache` is that of `open`. `force_share` reads without locks. `progress` is called now and then (see
    `fvd.types.Progress`).

    Raises `ValueError` for an open image with another format than `fvd`, and what `progress` raises.

    ```pycon
    >>> result = fvd.compare("base.raw", "overlay.fvd", a_format="raw")
    >>> result["identical"]
    True
    >>> fvd.compare("disk.fvd", "overlay.fvd")["offset"]  # the first sector that differs
    0
    ```
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
    """Copy a disk into a new image, or with `no_create` into an existing one.

    `format`, `options`, `backing_file` and `force` apply to the new image, as in `create`; the default format
    is `raw`. (`target_format` is another name for `format`.) The source is a file, or an open image; the copy
    may or may not contain what is written to that image during the call. An `int` is a file descriptor of a
    stream, raw only. Without `source_format`, the format is detected. `force_share` reads without locks.
    `progress` is called now and then (see `fvd.types.Progress`).

    Runs of at least `sparse_size` bytes of zeros become holes; 0 writes every byte. `sparse_size` is a
    multiple of 512, at most 16 MiB. `target_is_zero`, with `no_create`, states that the target reads as
    zeros, so that no zeros are written. `out_of_order` writes in any order, with more threads; a compact
    image is then more scattered. `cache`, of the target, and `source_cache` are those of `open`. With
    `unsafe` the target is durable only when the system has written it, with `writeback` when the call
    returns.

    If the copy fails, or `progress` or a signal raises an exception, a new target is removed. A target that
    cannot be removed (a device, or any target with `no_create`) is marked as unfinished; every attempt to
    open it is refused until it is written again.

    Raises `ValueError` for invalid options, for a target that is part of the source, and with `no_create` for
    a target of another size; `NoSpaceError` if there is no room; `UnsupportedError` if the source cannot be
    read or the target is neither a file nor a block device.

    ```pycon
    >>> fvd.convert("overlay.fvd", "flat.raw")
    {'format': 'raw', 'size': 1048576}
    >>> fvd.convert("flat.raw", "compact.fvd", format="fvd", options={"compact_image": True})
    {'format': 'fvd', 'size': 1048576}
    ```
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
