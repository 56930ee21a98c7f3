"""Images: what `info`, `check`, `map` and `stats` tell about them."""

from typing import Any, Literal, NotRequired, TypedDict


class Extent(TypedDict):
    """A range of the virtual disk whose bytes all come from the same place: one entry of `map`. In bytes.

    ```pycon
    >>> extent = next(fvd.map("overlay.fvd", length=512))
    >>> extent["depth"], extent["offset"], extent["filename"]
    (1, 0, '...base.raw')
    ```
    """

    start: int
    length: int
    depth: int
    """0: this image, 1: its base, and so on."""
    present: bool
    """Whether a layer of the chain holds it."""
    zero: bool
    """Whether it reads as zeros."""
    data: bool
    """Whether it has storage."""
    compressed: bool
    """Whether it is stored compressed, in a qcow2 image of the chain."""
    offset: NotRequired[int]
    """Where it starts in `filename`, in bytes. Only if the file holds the bytes unchanged."""
    filename: NotRequired[str]


class FormatSpecific(TypedDict):
    """Information that only one format has. Sizes are in bytes, delays in seconds; of `prefetch`, throughputs
    in KiB/s and times in milliseconds.

    ```pycon
    >>> specific = fvd.info("overlay.fvd")["format-specific"]
    >>> specific["type"], specific["data"]["block-size"]
    ('fvd', 4096)
    ```
    """

    type: str
    data: dict[str, Any]


Snapshot = TypedDict(
    "Snapshot",
    {
        "id": str,
        "name": str,
        "vm-state-size": int,
        "date-sec": int,
        "date-nsec": int,
        "vm-clock-sec": int,
        "vm-clock-nsec": int,
        "icount": NotRequired[int],
    },
)
"""A snapshot inside a qcow2 image. fvd reads only the current disk, not the snapshot.

`vm-state-size` is in bytes, `date-sec` in seconds since 1970, `vm-clock-sec` in seconds of the guest.

```pycon
>>> snapshot: Snapshot = {
...     **{"id": "1", "name": "installed", "vm-state-size": 0, "vm-clock-sec": 71, "vm-clock-nsec": 0},
...     **{"date-sec": 1767225600, "date-nsec": 0},
... }
```
"""
ImageInfo = TypedDict(
    "ImageInfo",
    {
        "filename": str,
        "format": str,
        "virtual-size": NotRequired[int],
        "actual-size": NotRequired[int],
        "cluster-size": NotRequired[int],
        "dirty-flag": bool,
        "encrypted": NotRequired[Literal[True]],
        "snapshots": NotRequired[list[Snapshot]],
        "backing-filename": NotRequired[str],
        "full-backing-filename": NotRequired[str],
        "backing-filename-format": NotRequired[str],
        "format-specific": NotRequired[FormatSpecific],
    },
)
"""One image, as in `qemu-img info --output=json`. No virtual size if fvd cannot read the format.

Sizes are in bytes. `actual-size` is the space that the file takes, without its holes. `dirty-flag`: the image
was not closed, or is open for writing.

```pycon
>>> info = fvd.info("base.raw")
>>> info["format"], info["virtual-size"], info["dirty-flag"]
('raw', 1048576, False)
```
"""
CheckResult = TypedDict(
    "CheckResult",
    {
        "filename": str,
        "format": str,
        "check-errors": int,
        "corruptions": int,
        "leaks": int,
        "corruptions-fixed": int,
        "leaks-fixed": int,
        "image-end-offset": NotRequired[int],
        "total-clusters": NotRequired[int],
        "allocated-clusters": NotRequired[int],
        "fragmented-clusters": NotRequired[int],
        "total-blocks": NotRequired[int],
        "local-blocks": NotRequired[int],
        "suspect": bool,
        "needs-recovery": NotRequired[bool],
        "data-file-unchecked": NotRequired[bool],
        "messages": list[str],
    },
)
"""What a check found. After a repair, `corruptions` and `leaks` count what remains.

A cluster is a chunk of a compact image; a block is what one bit of the bitmap stands for. `suspect`: the
image was not closed and has no journal to recover from. `needs-recovery`: the image was not closed, and the
next open will replay its journal. `data-file-unchecked`: the image names a data file, which is opened only
with `backing_chain`. `image-end-offset` is in bytes. `messages` are texts for people, one for each finding.

```pycon
>>> found = fvd.check("overlay.fvd")
>>> found["local-blocks"], found["total-blocks"], found["messages"]
(0, 256, [])
```
"""
DiskStats = TypedDict(
    "DiskStats",
    {
        "base-bytes": int,
        "local-bytes": int,
        "totals": dict[str, int],
    },
)
"""How much of an image is independent of its base: `local-bytes` of `base-bytes`.

This is what the next open will find: it includes the journal of an image that was not closed, but not what
only the memory of a running process knows. Both are 0 for an image that needs no base, or no longer needs it.
`totals` has the counters of `Image.stats()`, summed up over all sessions that changed the image and were
closed.

```pycon
>>> stats = fvd.stats("overlay.fvd")
>>> stats["local-bytes"], stats["base-bytes"]
(0, 1048576)
```
"""
