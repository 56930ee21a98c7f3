"""`fvd.Cache`."""

from __future__ import annotations

import os

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import CacheCheck, CacheObject, StrPath


class Cache:
    """A host cache: what bases that are far away have sent, for all images and processes of this machine.

    It is filled and used by `open(cache_dir=)`, `serve(cache_dir=)` and others. Its methods can be called
    meanwhile.

    ```pycon
    >>> cache = fvd.Cache("cache")
    >>> [found["url"] for found in cache.objects()]
    []
    ```
    """

    def __init__(self, directory: StrPath) -> None:
        """Name a cache that exists. Opens nothing."""
        self._directory = os.fspath(directory)

    def __repr__(self) -> str:
        return f"fvd.Cache({self._directory!r})"

    def objects(self) -> list[CacheObject]:
        """Return what is in the cache, in the order of the URLs.

        Raises `IoError` if there is no cache, and `NotPermittedError` if other users can write to it.

        ```pycon
        >>> fvd.Cache("cache").objects()
        []
        ```
        """
        return _core.cache_list(self._directory)

    def verify(self) -> list[CacheCheck]:
        """Read all that is in the cache, and remove what is damaged: it will be fetched again.

        Raises what `objects` raises.

        ```pycon
        >>> fvd.Cache("cache").verify()
        []
        ```
        """
        return _core.cache_verify(self._directory)

    def prune(self, size: int = 0) -> int:
        """Remove what was used least recently until the cache has at most `size` bytes; return its size.

        An object that is open keeps its index, so that more than `size` may be left.

        Raises `ValueError` for a negative `size`, `InUseError` if another process is making room, and what
        `objects` raises.

        ```pycon
        >>> fvd.Cache("cache").prune()
        0
        ```
        """
        return _core.cache_prune(self._directory, size)
