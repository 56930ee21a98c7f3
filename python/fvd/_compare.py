"""`fvd.compare`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import of_core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._disks import Disk
    from fvd._remote import Remote
    from fvd.types import BaseError, CacheMode, CompareResult, Format, Progress, StrPath


def compare(
    a: Disk,
    b: Disk,
    *,
    a_format: Format | None = None,
    b_format: Format | None = None,
    strict: bool = False,
    cache: CacheMode = "writeback",
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> CompareResult:
    """Compare the content of two disks.

    Each is a file, an open image, or a source of Python (see `fvd.source`). If one disk is longer, the rest
    of it must be zeros; with `strict` both must have the same length, and the same ranges allocated. Without
    a format, that of a file is detected. `cache`, `base_error`, `base_timeout`, `cache_dir` and `remote` are
    those of `open`. `force_share` reads without locks. `progress` is called now and then (see
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
        base_error=base_error,
        base_timeout=base_timeout,
        force_share=force_share,
        trust=trust,
        cache_dir=cache_dir,
        remote=remote,
        progress=progress,
    )
