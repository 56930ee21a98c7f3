"""Types of arguments and results of `fvd`. Keys that `qemu-img --output=json` has are named as there."""

import os
from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict

StrPath = str | os.PathLike[str]
Format = Literal["fvd", "raw", "qcow2"]
"""Formats that can be read."""
TargetFormat = Literal["fvd", "raw"]
"""Formats that can be written."""
CacheMode = Literal["writeback", "writethrough", "none", "directsync", "unsafe"]
Aio = Literal["threads", "io_uring"]
"""How to wait for disks."""
Discard = Literal["ignore", "unmap"]
"""What happens to blocks that a client discards."""
DetectZeroes = Literal["off", "on", "unmap"]
Repair = Literal["leaks", "all"]
Mode = Literal["r", "rb", "r+", "r+b", "rb+"]
"""How to open: to read, or to read and write."""
OptionValue = str | int | bool
StrSize = int | str
"""Bytes, or a text such as `"64K"`."""
Switch = bool | str
"""On or off; a text is parsed as on the command line."""
Progress = Callable[[int, int], object]
"""Called with the bytes done and the total bytes. The total is 0 while it is unknown (a stream)."""


class ImageOptions(TypedDict, total=False):
    """The options of a new image: those of `fvd create -o help`."""

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
    """The attributes of an image that can be changed: those of `fvd amend -o help`, under all their names."""

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
    """A range of the virtual disk whose bytes all come from the same place: one entry of `map`. In bytes."""

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
    """Information that only one format has."""

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
"""A snapshot inside a qcow2 image. fvd reads only the current disk, not the snapshot."""

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
"""One image, as in `qemu-img info --output=json`. No virtual size if fvd cannot read the format."""

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
with `backing_chain`.
"""


class CompareResult(TypedDict):
    """How two disks differ."""

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
    """The image that was created."""

    filename: str
    format: str
    size: int
    options: dict[str, OptionValue]
    """As used, including defaults, the base and its format, in the order to show them."""
    needs_trust: list[str]
    """Directories that must be trusted (`trust=`, `--trust`) before the image can be opened."""


class ConvertResult(TypedDict):
    """The result of a conversion."""

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
only the memory of a running process knows. `totals` has the counters of `Image.stats()`, summed up over all
sessions that changed the image and were closed.
"""

PrefetchState = Literal[
    "waiting", "running", "yielding", "paused", "throttled", "backing-off", "finished", "failed", "stopped"
]
"""`yielding`: waits for requests of the guest. `throttled`: pauses because others use the base, too.
`backing-off`: the base has failed; prefetch will retry later.
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
hole); zeros that have storage in the base are read, and count as fetched. `reason`: why prefetch pauses by
itself, while it does. `error`: why it failed, or the last failure of the base.
"""


class ExportStats(TypedDict):
    """The state of one disk of a server."""

    image: dict[str, int] | None
    """Counters since it was opened. None for a disk that is not an FVD image."""
    prefetch: PrefetchStatus | None
    """None if the disk has no base to copy from."""


class ConnectionCounts(TypedDict):
    """Numbers of connections of a server."""

    now: int
    total: int
    """Served since the start."""
    refused: int
    """Closed on arrival, because there were too many."""
    failed: int
    """Ended by an error."""


class RequestCounts(TypedDict):
    """Requests of one kind since the start of a server."""

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
polling, so that no thread had to be woken.
"""

PrefetchProgress = Callable[[PrefetchStatus], object]


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
"""


class ImportedProfile(TypedDict):
    """What an image has stored of a profile."""

    entries: int
    """As stored: rounded to whole units, with adjacent entries merged."""
    bytes: int
    beyond_disk: int
    """Given entries that extend beyond the disk. They were cut or left out."""
    no_room: int
    """Given entries that were left out for lack of room. The first of them may be stored in part."""


class TableRecord(TypedDict):
    """A journal record that sets table entries."""

    type: Literal["table"]
    first: int
    """Index of the first entry it sets."""
    entries: list[int | None]
    """Storage chunk numbers, without the dirty flag; None: not allocated."""


class BitmapRecord(TypedDict):
    """A journal record that marks sectors of the virtual disk as local."""

    type: Literal["bitmap"]
    first_sector: int
    sectors: int


class JournalSector(TypedDict):
    """One 512-byte sector of the journal."""

    sector: int
    records: list[TableRecord | BitmapRecord]


class Dump(TypedDict):
    """The metadata of an image as it is on disk, without recovery."""

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
