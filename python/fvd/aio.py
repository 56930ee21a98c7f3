"""Images for asyncio: `fvd.open` and `fvd.Image` without blocking the event loop.

```pycon
>>> import fvd.aio
>>> async with fvd.aio.open("disk.fvd", "r+") as image:
...     await image.pwrite(b"hello", 1 << 20)
...     await image.flush()
5
```

Any number of requests may be in flight at once. Requests for data in the page cache are answered immediately,
without a change of threads. All others wait in the kernel while other tasks run.

Cancellation is safe. A read that is cancelled is abandoned; the memory that it would fill, or that is being
written, stays allocated until the kernel no longer uses it, and its content may change until then. The same
holds for a read that failed with ETIMEDOUT (`base_timeout`). A write (or `zero`, `discard`, `flush`, `close`)
that is cancelled before it has started does not happen; one that has started runs to its end, although no
task waits for it. An image whose opening is cancelled is closed. A request that overlaps with an earlier
write waits for it, so no write is overtaken. `close` waits for all requests.

`fvd.serve` can serve an open image to NBD clients while it is used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fvd import _fvd as _core
from fvd import _open as _blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from typing_extensions import Buffer

    from fvd._remote import Remote
    from fvd.types import (
        AsyncSource,
        BaseError,
        BinaryFile,
        CacheMode,
        DetectZeroes,
        Discard,
        Extent,
        ImageInfo,
        Mode,
        PrefetchProgress,
        PrefetchStatus,
        Source,
        StrPath,
    )

__all__ = ["Image", "open"]

_PREFETCH_INTERVAL = 0.1  # seconds between two reports
_FINAL_STATES = {"finished", "failed", "stopped"}

_Method = TypeVar("_Method", bound="Callable[..., Any]")


def _twin(method: _Method) -> _Method:
    """Give `method` the docstring of the method of `fvd.Image` with the same name. Its examples then use
    `await`.
    """
    text = getattr(_core.Image, method.__name__).__doc__
    if text:
        text = re.sub(r"\b(image|overlay)\.\w+\(", r"await \g<0>", text)
        text = text.replace("fvd.open(", "await fvd.aio.open(")
    method.__doc__ = text
    return method


class Image:
    """An open FVD image: the methods of `fvd.Image` as coroutines. `fvd.aio.open` creates it.

    It is not tied to an event loop and may be used from several. Reads and writes may be in flight at the
    same time.

    ```pycon
    >>> async with fvd.aio.open("overlay.fvd") as image:
    ...     await asyncio.gather(image.pread(4, 0), image.pread(4, 4))
    [b'base', b'base']
    ```
    """

    __slots__ = ("__weakref__", "_image")

    def __init__(self, image: _core.AsyncImage) -> None:
        """Wrap the image that `open` has opened."""
        self._image = image

    @property
    @_twin
    def size(self) -> int:
        return self._image.size

    @property
    @_twin
    def path(self) -> str:
        return self._image.path

    @property
    @_twin
    def writable(self) -> bool:
        return self._image.writable

    @property
    @_twin
    def closed(self) -> bool:
        return self._image.closed

    @_twin
    async def pread(self, count: int, offset: int) -> bytes:
        return await self._image.pread(count, offset)

    @_twin
    async def readinto(self, buffer: Buffer, offset: int) -> int:
        return await self._image.readinto(buffer, offset)

    @_twin
    async def pwrite(self, buffer: Buffer, offset: int) -> int:
        return await self._image.pwrite(buffer, offset)

    @_twin
    async def zero(self, count: int, offset: int) -> None:
        await self._image.zero(count, offset)

    @_twin
    async def discard(self, count: int, offset: int) -> None:
        await self._image.discard(count, offset)

    @_twin
    async def flush(self) -> None:
        await self._image.flush()

    @_twin
    async def extents(self, offset: int = 0, length: int | None = None) -> list[Extent]:
        return await self._image.extents(offset, length)

    @_twin
    async def info(self) -> ImageInfo:
        return await self._image.info()

    @_twin
    async def stats(self) -> dict[str, int]:
        return await self._image.stats()

    @_twin
    async def prefetch(
        self, progress: PrefetchProgress | None = None, *, rate_limit: int | None = None
    ) -> PrefetchStatus:
        before = await self._image.prefetch_status()
        if rate_limit is not None:
            await self._image.limit_prefetch(rate_limit)
        await self._image.resume_prefetch()
        try:
            await self._prefetched(progress, before)
            return await self._image.prefetch_outcome()
        except BaseException:
            # If `progress` has closed the image, or has forked and this is the child, there is no prefetch to
            # pause.
            with contextlib.suppress(ValueError):
                await self._image.pause_prefetch()
            raise

    async def _prefetched(self, progress: PrefetchProgress | None, before: PrefetchStatus) -> None:
        while True:
            status = await self._image.prefetch_status()
            final = status["state"] in _FINAL_STATES or await self._image.prefetch_is_over(before["retries"])
            # The total is unknown until prefetch has examined the image.
            if progress is not None and (final or status["total"] > 0):
                progress(status)
            if final:
                return
            await asyncio.sleep(_PREFETCH_INTERVAL)

    @_twin
    async def prefetch_status(self) -> PrefetchStatus:
        return await self._image.prefetch_status()

    @_twin
    async def pause_prefetch(self) -> None:
        await self._image.pause_prefetch()

    @_twin
    async def resume_prefetch(self) -> None:
        await self._image.resume_prefetch()

    @_twin
    async def set_prefetch_rate(self, rate: int | None) -> None:
        await self._image.set_prefetch_rate(rate)

    @_twin
    async def close(self) -> None:
        await self._image.close()

    async def __aenter__(self) -> Self:
        """Return the image itself."""
        return self

    async def __aexit__(
        self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close the image."""
        await self.close()

    def __repr__(self) -> str:
        """Return a text with the path and the state of the image."""
        return repr(self._image)


class _Opening:
    """The result of `open`: await it, or use it with `async with`."""

    __slots__ = ("_arguments", "_base", "_image", "_path")

    def __init__(
        self, path: StrPath, arguments: dict[str, Any], base: Source | AsyncSource | BinaryFile | None
    ) -> None:
        self._path = path
        self._arguments = arguments
        self._base = base
        self._image: Image | None = None

    async def _open(self) -> Image:
        base = _blocking.core_base(self._base, is_async=True)
        image = await _core.open_async(self._path, **self._arguments, base=base)
        # From here on there is no `await` where a cancellation could lose the image.
        image.start()
        return Image(image)

    def __await__(self) -> Generator[Any, Any, Image]:
        return self._open().__await__()

    async def __aenter__(self) -> Image:
        self._image = await self
        return self._image

    async def __aexit__(
        self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._image is not None:
            await self._image.close()


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
    base: Source | AsyncSource | BinaryFile | None = None,
) -> _Opening:
    return _Opening(
        path,
        {
            "writable": _blocking.is_writable(mode),
            "write_base": write_base,
            "cache": cache,
            "discard": discard,
            "detect_zeroes": detect_zeroes,
            "copy_on_read": copy_on_read,
            "base_error": base_error,
            "base_timeout": base_timeout,
            "force_share": force_share,
            "trust": trust,
            "cache_dir": cache_dir,
            "remote": remote,
        },
        base,
    )


# Without its example.
_OF_OPEN = (_blocking.open.__doc__ or "").partition("    ```")[0]
open.__doc__ = f"""{_OF_OPEN}\
    Here the limit of `base_error` and `base_timeout` also holds for bases on this machine, such as those on a
    network file system.

    `base` can also be a source with coroutines (see `fvd.types.AsyncSource`). They run in the event loop
    where the image is opened. Once that loop is closed, reads of the base fail.

    Await the result, or use it with `async with`: only then is the image opened. `ValueError` for an unknown
    mode is raised at once.

    ```pycon
    >>> image = await fvd.aio.open("overlay.fvd", "r+", base_timeout=2.5)
    >>> await image.pread(8, 0)
    b'basebase'
    >>> await image.close()
    ```
    """
