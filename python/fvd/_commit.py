"""`fvd.commit`."""

from __future__ import annotations

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._remote import Remote
    from fvd.types import CacheMode, CommitResult, Format, Progress, StrPath


def commit(
    path: StrPath,
    *,
    format: Format | None = None,
    keep: bool = False,
    cache: CacheMode = "writeback",
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = (),
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> CommitResult:
    """Write what an image has to its base, and then empty the image, unless it is to `keep` its data.

    The disk reads the same before, meanwhile and afterwards, also after a crash. A call that was interrupted
    is completed by another one. **Other images on the same base are damaged**, and nothing tells whether
    there are any. A base that is shorter than the image grows. What the base has already is not written.

    The base is a raw disk or an FVD image on this machine, and the image names its format. No other process
    may have one of the two open (`InUseError`). Data that lies beyond the end that the base had when the
    image was made stays in the image, too.

    `cache` with `none` or `directsync` bypasses the page cache; in every mode the base is durable before
    the image is emptied. `rate_limit` is in bytes per second; None or 0: no limit. `remote` gives credentials
    and URLs for layers below the base that lie on other machines (see `Remote`). `progress` is called now
    and then (see `fvd.types.Progress`); an exception that it raises ends the call between two writes.

    Raises `ValueError` if the image has no base or writes to its base itself; `UnsupportedError` for another
    base; `NoSpaceError` if the base has no room; `NotPermittedError` if the base cannot be written to.

    ```pycon
    >>> fvd.convert("base.raw", "golden.raw")["format"]
    'raw'
    >>> made = fvd.create("session.fvd", backing_file="golden.raw", backing_format="raw")
    >>> with fvd.open("session.fvd", "r+") as image:
    ...     image.pwrite(b"hello", 4096)
    5
    >>> fvd.commit("session.fvd")
    {'size': 1048576, 'written': 4096}
    ```
    """
    return _core.commit(
        path,
        format=format,
        keep=keep,
        cache=cache,
        rate_limit=rate_limit,
        trust=trust,
        remote=remote,
        progress=progress,
    )
