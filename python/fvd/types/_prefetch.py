"""Prefetch, and the profiles that say what it fetches first."""

from collections.abc import Callable
from typing import Literal, TypedDict

PrefetchState = Literal[
    "waiting",
    "running",
    "yielding",
    "paused",
    "throttled",
    "backing-off",
    "base-away",
    "finished",
    "failed",
    "stopped",
]
"""`waiting`: has not begun. `yielding`: waits for requests of the guest. `paused`: by `pause_prefetch`.
`throttled`: pauses because others use the base, too. `backing-off`: the base has failed; prefetch will
retry later. `base-away`: the store of the base does not answer; prefetch goes on when it does. `finished`:
every block is local. `failed`: it ended with an error; `resume_prefetch` and `prefetch` try again.
`stopped`: the image is closed.

```pycon
>>> with fvd.open("overlay.fvd") as image:
...     image.prefetch_status()["state"]
'waiting'
```
"""
PrefetchStatus = TypedDict(
    "PrefetchStatus",
    {
        "state": PrefetchState,
        "total": int,
        "local": int,
        "fetched": int,
        "zeros": int,
        "read-rate": int,
        "write-rate": int,
        "pauses": int,
        "retries": int,
        "reason": str | None,
        "error": str | None,
    },
)
"""Progress of prefetch, in bytes, and recent rates in bytes per second.

`total`: the part of the disk that the base covers. `local`: how much of that is local, for whatever reason.
`fetched`: what prefetch itself has read from the base and stored (zeros without allocating space). `zeros`:
what prefetch has made local without reading it, because the base is known to hold zeros there (such as a
hole); zeros that have storage in the base are read, and count as fetched. `pauses`: how often it paused
because others use the base. `retries`: failures of the base after which it went on. `reason`: why prefetch
pauses by itself, while it does, or which store it waits for, since when and why. `error`: why it failed, or
the last failure of the base.

```pycon
>>> with fvd.open("overlay.fvd", "r+") as image:
...     status = image.prefetch()
>>> status["state"], status["local"], status["total"]
('finished', 1048576, 1048576)
```
"""
PrefetchProgress = Callable[[PrefetchStatus], object]
"""Called with the status of prefetch several times a second. What it raises pauses prefetch, and is raised.

```pycon
>>> seen = []
>>> with fvd.open("overlay.fvd", "r+") as image:
...     status = image.prefetch(progress=seen.append)
>>> seen[-1]["local"], seen[-1]["total"]
(1048576, 1048576)
```
"""
Profile = TypedDict(
    "Profile",
    {
        "filename": str,
        "virtual-size": int,
        "unit": int,
        "capacity": int,
        "recording": bool,
        "bytes": int,
        "entries": list[tuple[int, int]],
    },
)
"""The prefetch profile of an image: what a session needs of its base first.

`entries` are offset and length, in bytes of the disk, in the order in which they are fetched. They do not
overlap. `bytes` is the sum of their lengths, `capacity` the number of entries that the image has room for,
`unit` the bytes to which they are rounded. `recording`: the next session records a profile, because the image
has that option and no profile yet.

```pycon
>>> options = {"prefetch_profile_size": "4K"}
>>> made = fvd.create("p.fvd", backing_file="base.raw", backing_format="raw", options=options)
>>> profile = fvd.profile("p.fvd")
>>> profile["unit"], profile["capacity"], profile["entries"]
(4096, 341, [])
```
"""


class ImportedProfile(TypedDict):
    """What an image has stored of a profile. See `import_profile`.

    ```pycon
    >>> stored: ImportedProfile = {"entries": 2, "bytes": 12288, "beyond_disk": 0, "no_room": 0}
    ```
    """

    entries: int
    """As stored: rounded to whole units, with adjacent entries merged."""
    bytes: int
    beyond_disk: int
    """Given entries that extend beyond the disk. They were cut or left out."""
    no_room: int
    """Given entries that were left out for lack of room. The first of them may be stored in part."""
