"""`fvd.rebase`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._remote import Remote
    from fvd.types import CacheMode, Format, Progress, RebaseResult, StrPath


def rebase(
    path: StrPath,
    backing_file: StrPath | None,
    *,
    backing_format: Format | None = None,
    format: Format | None = None,
    name_only: bool = False,
    cache: CacheMode = "writeback",
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = (),
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> RebaseResult:
    """Give an image another base, and keep the content of its disk.

    What comes from the old base and differs in the new one is copied to the image first. Then the name, the
    format and the pin of the base change together. After a crash, an error or an exception of `progress` the
    image has the old base or the new one, with the same content; another call completes the work. A
    `backing_file` of None or `""` leaves the image without a base.

    `backing_file` is stored as given; a relative name is looked up from the directory of the image. What lies
    beyond the end of a shorter base is copied, too. With `name_only` no base is opened and nothing is copied:
    the caller promises that the new base has the same content. No other process may have the image open
    (`InUseError`). An image that was made without a base cannot get one.

    `cache` with `none` or `directsync` bypasses the page cache. `rate_limit` is in bytes per second; None or
    0: no limit. `remote` gives credentials and URLs for bases on other machines (see `Remote`). `progress` is
    called now and then (see `fvd.types.Progress`).

    Warns (`UserWarning`) about a base without `backing_format`. Raises `ValueError` for an image without a
    base or one that writes to its base, and for a base that would depend on the image; `NoSpaceError` if
    there is no room for the copies; `IoError` if a base cannot be opened.

    ```pycon
    >>> fvd.convert("base.raw", "moved.raw")["size"]
    1048576
    >>> fvd.rebase("overlay.fvd", "moved.raw", backing_format="raw")
    {'size': 1048576, 'copied': 0}
    ```
    """
    from fvd import _advice

    named = name_of(backing_file) or None
    _advice.warn_of_format(named, backing_format)
    return _core.rebase(
        path,
        named,
        backing_format=backing_format,
        format=format,
        name_only=name_only,
        cache=cache,
        rate_limit=rate_limit,
        trust=trust,
        remote=remote,
        progress=progress,
    )
