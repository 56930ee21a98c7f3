"""Results of `fvd.Cache`."""

from __future__ import annotations

from typing import TypedDict


class CacheObject(TypedDict):
    """An object in a host cache. See `Cache.objects`.

    ```pycon
    >>> found: list[CacheObject] = fvd.Cache("cache").objects()
    ```
    """

    name: str
    """Its folder in the cache."""
    url: str
    pin: str
    """Which object of that URL it is, as people read it."""
    length: int
    """Of the object, whether or not it is in the cache."""
    present: int
    """Bytes of the object that are in the cache."""
    used: int
    """Bytes that it occupies on the disk."""
    last_use: int | None
    """When a part of it was used for the last time, in seconds since 1970, to a minute. None if no part is in
    the cache.
    """
    open: bool
    """Whether a process has it open."""


class CacheCheck(TypedDict):
    """What a check of an object in a host cache has found. See `Cache.verify`.

    ```pycon
    >>> found: list[CacheCheck] = fvd.Cache("cache").verify()
    ```
    """

    url: str
    checked: int
    """Units of 256 KiB that were read."""
    damaged: int
    """Of these, those that were damaged. They are no longer in the cache."""
