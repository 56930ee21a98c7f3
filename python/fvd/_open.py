"""`fvd.open`."""

from __future__ import annotations

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._fvd import Image
    from fvd._remote import Remote
    from fvd.types import (
        AsyncSource,
        BaseError,
        BinaryFile,
        CacheMode,
        DetectZeroes,
        Discard,
        Mode,
        Source,
        StrPath,
    )


_WRITABLE = {"r": False, "rb": False, "r+": True, "r+b": True, "rb+": True}


def is_writable(mode: str) -> bool:
    """Tell whether `mode` writes. Raises `ValueError` for one that `open` does not have."""
    if mode not in _WRITABLE:
        raise ValueError(f"invalid mode: {mode!r} (use 'r' or 'r+'; fvd.create() makes a new image)")
    return _WRITABLE[mode]


def core_base(
    base: Source | AsyncSource | BinaryFile | None, *, is_async: bool = False
) -> _core.Source | None:
    """Return the source that stands in for a base in the form that the core accepts."""
    if base is None:
        return None
    from fvd import _sources

    return _sources.core_source(base, is_async=is_async)


def open(
    path: StrPath,
    mode: Mode = "r",
    *,
    write_base: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    copy_on_read: bool | None = None,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    base: Source | BinaryFile | None = None,
) -> Image:
    """Open an image: `r` to read, `r+` to read and write (`rb` and `r+b` mean the same).

    `cache` is the same as in QEMU: `writethrough` flushes after every write, `unsafe` never syncs, `none` and
    `directsync` bypass the page cache. `copy_on_read` enables or disables storing what is read from the base;
    without it, the image's own option applies. `force_share`, only for `r`, skips the locks that keep out
    writers.

    With `discard="ignore"`, `Image.discard` does nothing, and `Image.zero` does not free space: allocated
    space stays allocated, so that later writes find it. With `detect_zeroes="on"`, writes of only zeros
    become zeroing that keeps space; with `unmap`, zeroing that frees it.

    `base_error` says what a read does if the store of a base on another machine does not answer: `"wait"`
    until it does, or `"report"`, which raises `IoError` with ETIMEDOUT after `base_timeout` seconds (more
    than 0 and at most 2^32 - 1; 30 by default). A `base_timeout` alone means `"report"`. Without both, the
    configuration decides (docs/remote.md), or else reads wait. Opening itself does not wait: it makes at
    most four attempts.

    An image opened with `r+` prefetches in the background if it has the option `prefetch_start_delay`.

    `cache_dir` is the folder of the host cache for bases that are far away (see `Cache`); by default, that of
    the configuration. An empty text means none.

    `remote` gives credentials and URLs for bases on other machines (see `Remote`).

    `base` is a source (see `fvd.source`), which is read in place of the backing file that the image names. It
    needs no trust. Its format is the one that the image names. If the image remembers which object its base
    is (`base-pin` of `info`), the size and the `identity` of the source must fit. Its reads have the limit of
    `base_error` and `base_timeout`. An exception that it raises is the `__cause__` of the `IoError`.

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
        writable=is_writable(mode),
        write_base=write_base,
        cache=cache,
        discard=discard,
        detect_zeroes=detect_zeroes,
        copy_on_read=copy_on_read,
        base_error=base_error,
        base_timeout=base_timeout,
        force_share=force_share,
        trust=trust,
        cache_dir=cache_dir,
        remote=remote,
        base=core_base(base),
    )
