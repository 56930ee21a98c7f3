"""`fvd.convert`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._create import core_options
from fvd._disks import name_of, of_core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._disks import Disk
    from fvd._remote import Remote
    from fvd.types import (
        BaseError,
        CacheMode,
        ConvertResult,
        Format,
        ImageOptions,
        Progress,
        StrPath,
        TargetFormat,
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
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Copy a disk into a new image, or with `no_create` into an existing one.

    `format`, `options`, `backing_file` and `force` apply to the new image, as in `create`; the default format
    is `raw`. (`target_format` is another name for `format`.) The source is a file, an open image, or a source
    of Python (see `fvd.source`). The copy of an image may or may not contain what is written to it during the
    call. An `int` is a file descriptor of a
    stream, raw only. Without `source_format`, the format is detected. `force_share` reads without locks.
    `progress` is called now and then (see `fvd.types.Progress`).

    Runs of at least `sparse_size` bytes of zeros become holes; 0 writes every byte. `sparse_size` is a
    multiple of 512, at most 16 MiB. `target_is_zero`, with `no_create`, states that the target reads as
    zeros, so that no zeros are written. `out_of_order` writes in any order, with more threads; a compact
    image is then more scattered. `cache`, of the target, `source_cache` and `cache_dir` are those of `open`.
    With `unsafe` the target is durable only when the system has written it, with `writeback` when the call
    returns.

    `rate_limit` is the most bytes of data that are copied in a second; None or 0: no limit.

    `base_error`, `base_timeout` and `remote` are those of `open`, for a source on another machine and for
    bases there.

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
        options=core_options(options, made),
        backing_file=name_of(backing_file),
        backing_format=backing_format,
        sparse_size=sparse_size,
        no_create=no_create,
        out_of_order=out_of_order,
        force=force,
        target_is_zero=target_is_zero,
        cache=cache,
        source_cache=source_cache,
        base_error=base_error,
        base_timeout=base_timeout,
        force_share=force_share,
        rate_limit=rate_limit,
        trust=trust,
        cache_dir=cache_dir,
        remote=remote,
        progress=progress,
    )
