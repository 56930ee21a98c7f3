"""Types of arguments and results of `fvd`. Keys that `qemu-img --output=json` has are named as there.

They are for type checkers: at run time every result is a dictionary, and every argument a plain value. Sizes,
offsets and lengths are in bytes.

```pycon
>>> from fvd.types import Extent, ImageInfo, Mode
>>> mode: Mode = "r+"
>>> info: ImageInfo = fvd.info("overlay.fvd")
>>> first: Extent = next(fvd.map("overlay.fvd"))
```
"""

import os
from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict

StrPath = str | os.PathLike[str]
"""The name of a file: a string or a path object, not `bytes`.

```pycon
>>> from pathlib import Path
>>> fvd.info(Path("disk.fvd"))["format"]
'fvd'
```
"""
Format = Literal["fvd", "raw", "qcow2"]
"""Formats that can be read.

```pycon
>>> fvd.info("base.raw", format="raw")["virtual-size"]
1048576
```
"""
TargetFormat = Literal["fvd", "raw"]
"""Formats that can be written.

```pycon
>>> fvd.create("empty.raw", "1M", format="raw")["format"]
'raw'
```
"""
CacheMode = Literal["writeback", "writethrough", "none", "directsync", "unsafe"]
"""When writes are durable, and whether the page cache is bypassed (`none`, `directsync`): as in QEMU.

```pycon
>>> with fvd.open("disk.fvd", "r+", cache="writethrough") as image:
...     image.pwrite(b"durable at once", 0)
15
```
"""
Aio = Literal["threads", "io_uring"]
"""How to wait for disks.

```pycon
>>> with fvd.serve("disk.fvd", socket="nbd.sock", aio="threads") as server:
...     server.closed
False
```
"""
Discard = Literal["ignore", "unmap"]
"""What happens to ranges that are discarded: nothing, or their space is freed.

```pycon
>>> with fvd.open("disk.fvd", "r+", discard="ignore") as image:
...     image.discard(4096, 0)
```
"""
DetectZeroes = Literal["off", "on", "unmap"]
"""What happens to writes of only zeros: they are written, become zeroing that keeps space, or zeroing that
frees it.

```pycon
>>> with fvd.open("disk.fvd", "r+", detect_zeroes="unmap") as image:
...     written = image.pwrite(bytes(4096), 0)
...     image.stats()["detected-zeroes"]
1
```
"""
Repair = Literal["leaks", "all"]
"""What `check` repairs: only leaked space, which loses nothing, or everything.

```pycon
>>> fvd.check("disk.fvd", repair="leaks")["leaks-fixed"]
0
```
"""
Mode = Literal["r", "rb", "r+", "r+b", "rb+"]
"""How to open: to read (`r`, `rb`), or to read and write (the others).

```pycon
>>> with fvd.open("disk.fvd", "r+") as image:
...     image.writable
True
```
"""
OptionValue = str | int | bool
"""The value of an option, parsed: a word or a file name, a size or a number, on or off.

```pycon
>>> from fvd.options import parse_options
>>> parse_options(["copy_on_read,block_size=4K,data_file=x.raw"], "fvd")
{'copy_on_read': True, 'block_size': 4096, 'data_file': 'x.raw'}
```
"""
StrSize = int | str
"""Bytes, or a text such as `"64K"` (`fvd.options.parse_size`).

```pycon
>>> fvd.amend("disk.fvd", size="80M")
>>> fvd.amend("disk.fvd", size=96 << 20)
```
"""
Switch = bool | str
"""On or off; a text is parsed as on the command line.

```pycon
>>> fvd.amend("overlay.fvd", copy_on_read=True)
>>> fvd.amend("overlay.fvd", copy_on_read="off")
```
"""
Progress = Callable[[int, int], object]
"""Called with the bytes done and the total bytes to do. Holes do not count, so the total can decrease while
holes are still being found. The total is 0 while it is unknown (a stream), and if there is nothing to do.

It is called in the thread of the caller. What it raises ends the operation, and is raised by it.

```pycon
>>> seen = []
>>> result = fvd.convert("overlay.fvd", "copy.raw", progress=lambda *numbers: seen.append(numbers))
>>> done, total = seen[-1]
>>> done == total
True
```
"""


class ImageOptions(TypedDict, total=False):
    """The options of a new image: those of `fvd create -o help`, with their units, ranges and defaults.

    Sizes are in bytes, the times of `prefetch_start_delay` and `profile_directed_prefetch_start_delay` in
    seconds. `size`, `backing_file` and `backing_fmt` are arguments of `create` and `convert` instead.

    ```pycon
    >>> options: ImageOptions = {"copy_on_read": True, "block_size": "64K"}
    >>> made = fvd.create("o.fvd", backing_file="base.raw", backing_format="raw", options=options)
    >>> made["options"]["block_size"]
    65536
    ```
    """

    add_storage_cmd: str
    block_size: StrSize
    chunk_size: StrSize
    compact_image: Switch
    copy_on_read: Switch
    data_file: StrPath
    data_file_fmt: str
    detect_sparse_hole: StrSize
    generate_prefetch_profile: Switch
    journal_size: StrSize
    prefetch_profile_size: StrSize
    prefetch_start_delay: StrSize
    profile_directed_prefetch_start_delay: StrSize
    storage_grow_unit: StrSize
    write_updates_base_img: str


class Attributes(TypedDict, total=False):
    """The attributes of an image that can be changed: those of `fvd amend -o help`, under all their names.

    That list has their units, ranges and defaults. Sizes are in bytes, throughputs in KiB/s, start delays in
    seconds, other times in milliseconds.

    ```pycon
    >>> changes: Attributes = {"copy_on_read": True, "prefetch_start_delay": 60}
    >>> fvd.amend("overlay.fvd", **changes)
    >>> fvd.info("overlay.fvd")["format-specific"]["data"]["prefetch-start-delay"]
    60
    ```
    """

    size: StrSize
    virtual_disk_size: StrSize
    base_img: StrPath
    backing_file: StrPath
    base_img_fmt: str
    backing_fmt: str
    data_file: StrPath
    data_file_fmt: str
    clean_shutdown: Switch
    need_zero_init: Switch
    storage_grow_unit: StrSize
    copy_on_read: Switch
    max_outstanding_copy_on_read_data: StrSize
    write_updates_base_img: str
    prefetch_start_delay: StrSize
    num_prefetch_slots: StrSize
    max_num_outstanding_prefetch_writes: StrSize
    bytes_per_prefetch: StrSize
    prefetch_min_read_throughput: StrSize
    prefetch_min_read_throughput_threshold: StrSize
    prefetch_min_write_throughput: StrSize
    prefetch_min_write_throughput_threshold: StrSize
    prefetch_max_read_throughput: StrSize
    prefetch_max_read_throughput_threshold: StrSize
    prefetch_max_write_throughput: StrSize
    prefetch_max_write_throughput_threshold: StrSize
    prefetch_perf_calc_alpha: StrSize
    prefetch_read_throughput_measure_time: StrSize
    prefetch_write_throughput_measure_time: StrSize
    prefetch_throttle_time: StrSize
    prefetch_over_threshold_throttle_time: StrSize
    generate_prefetch_profile: Switch
    profile_directed_prefetch_start_delay: StrSize


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
    ('fvd', 512)
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
(0, 2048, [])
```
"""


class CompareResult(TypedDict):
    """How two disks differ.

    ```pycon
    >>> fvd.compare("disk.fvd", "overlay.fvd", strict=True)
    {'identical': False, 'reason': 'size', 'offset': None, 'size_a': 67108864, 'size_b': 1048576}
    ```
    """

    identical: bool
    reason: Literal["content", "size", "status"] | None
    """`size` and `status` (known without reading) only in strict mode. None if identical."""
    offset: int | None
    """In bytes: the first sector whose content differs, or the first offset where the status differs. None
    for `size`.
    """
    size_a: int
    size_b: int


class CreateResult(TypedDict):
    """The image that was created. `size`, of its disk, is in bytes.

    ```pycon
    >>> fvd.create("new.fvd", "1M")
    {'filename': 'new.fvd', 'format': 'fvd', 'size': 1048576, 'options': {...}, 'needs_trust': []}
    ```
    """

    filename: str
    format: str
    size: int
    options: dict[str, OptionValue]
    """As used, including defaults, the base and its format, in the order to show them."""
    needs_trust: list[str]
    """Directories that must be trusted (`trust=`, `--trust`) before the image can be opened."""


class ConvertResult(TypedDict):
    """The result of a conversion.

    ```pycon
    >>> fvd.convert("overlay.fvd", "copy.fvd", format="fvd")
    {'format': 'fvd', 'size': 1048576}
    ```
    """

    format: str
    size: int
    """Size of the source's disk in bytes. An FVD image rounds it up to a multiple of 512."""


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

PrefetchState = Literal[
    "waiting", "running", "yielding", "paused", "throttled", "backing-off", "finished", "failed", "stopped"
]
"""`waiting`: has not begun. `yielding`: waits for requests of the guest. `paused`: by `pause_prefetch`.
`throttled`: pauses because others use the base, too. `backing-off`: the base has failed; prefetch will retry
later. `finished`: every block is local. `failed`: it ended with an error; `resume_prefetch` and `prefetch`
try again. `stopped`: the image is closed.

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
pauses by itself, while it does. `error`: why it failed, or the last failure of the base.

```pycon
>>> with fvd.open("overlay.fvd", "r+") as image:
...     status = image.prefetch()
>>> status["state"], status["local"], status["total"]
('finished', 1048576, 1048576)
```
"""


class ExportStats(TypedDict):
    """The state of one disk of a server.

    ```pycon
    >>> with fvd.serve({"system": "overlay.fvd"}) as server:
    ...     server.stats()["exports"]["system"]["prefetch"]["state"]
    'waiting'
    ```
    """

    image: dict[str, int] | None
    """Counters since it was opened. None for a disk that is not an FVD image."""
    prefetch: PrefetchStatus | None
    """None if the disk has no base to copy from."""


class ConnectionCounts(TypedDict):
    """Numbers of connections of a server.

    ```pycon
    >>> with fvd.serve("disk.fvd") as server:
    ...     server.stats()["connections"]
    {'now': 0, 'total': 0, 'refused': 0, 'failed': 0}
    ```
    """

    now: int
    total: int
    """Served since the start."""
    refused: int
    """Closed on arrival, because there were too many."""
    failed: int
    """Ended by an error."""


class RequestCounts(TypedDict):
    """Requests of one kind since the start of a server.

    ```pycon
    >>> with fvd.serve("disk.fvd") as server:
    ...     server.stats()["requests"]["write-zeroes"]
    {'requests': 0, 'bytes': 0, 'errors': 0}
    ```
    """

    requests: int
    bytes: int
    """Only of requests that succeeded."""
    errors: int


ServerStats = TypedDict(
    "ServerStats",
    {
        "connections": ConnectionCounts,
        "requests": dict[str, RequestCounts],
        "in-flight": int,
        "invalid": int,
        "polled": int,
        "exports": dict[str, ExportStats],
    },
)
"""What a server has done. `requests`: by the names that the protocol gives them. `invalid`: requests that
were not valid (out of bounds, unknown); no other count includes them. `polled`: requests that arrived during
polling, so that no thread had to be woken. `exports`: by the names of the exports; a single disk has the
empty name.

```pycon
>>> with fvd.serve("disk.fvd") as server:
...     stats = server.stats()
>>> list(stats["requests"])
['read', 'write', 'flush', 'trim', 'cache', 'write-zeroes', 'block-status']
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


class TableRecord(TypedDict):
    """A journal record that sets table entries.

    ```pycon
    >>> record: TableRecord = {"type": "table", "first": 0, "entries": [0, None, 1]}
    ```
    """

    type: Literal["table"]
    first: int
    """Index of the first entry it sets."""
    entries: list[int | None]
    """Storage chunk numbers, without the dirty flag; None: not allocated."""


class BitmapRecord(TypedDict):
    """A journal record that marks sectors of the virtual disk as local. A sector has 512 bytes.

    ```pycon
    >>> record: BitmapRecord = {"type": "bitmap", "first_sector": 8, "sectors": 128}
    ```
    """

    type: Literal["bitmap"]
    first_sector: int
    sectors: int


class JournalSector(TypedDict):
    """One 512-byte sector of the journal, by its number in the journal.

    ```pycon
    >>> image = fvd.open("overlay.fvd", "r+")
    >>> image.pwrite(bytes(4096), 0)
    4096
    >>> image.flush()
    >>> fvd.dump("overlay.fvd", force_share=True)["journal"]
    [{'sector': 0, 'records': [{'type': 'bitmap', 'first_sector': 0, 'sectors': 8}]}]
    ```
    """

    sector: int
    records: list[TableRecord | BitmapRecord]


class Dump(TypedDict):
    """The metadata of an image as it is on disk, without recovery.

    ```pycon
    >>> dump = fvd.dump("disk.fvd")
    >>> dump["header"]["virtual_disk_size"], dump["table"], dump["truncated"]
    (67108864, None, [])
    ```
    """

    filename: str
    header: dict[str, Any]
    """Every field by its name, in the order on disk. Strings without their padding."""
    table: list[tuple[int, int, int]] | None
    """Runs of allocated entries: first chunk, count, first storage chunk. None: not compact."""
    bitmap: list[tuple[int, int]] | None
    """Runs of local blocks: first block, count. None: no bitmap."""
    journal: list[JournalSector] | None
    """Sectors that hold a record. None: no journal."""
    profile: list[tuple[int, int]] | None
    """Prefetch profile: offset in bytes, length in units. None: no room for one."""
    truncated: list[str]
    """Which of `table`, `bitmap`, `journal` and `profile` were cut at the limit."""
