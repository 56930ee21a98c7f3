"""Shapes of what `fvd` returns. The keys are those of `qemu-img --output=json` wherever it has them."""

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
"""What waits for disks."""
Discard = Literal["ignore", "unmap"]
"""What becomes of blocks that a client does not need any more."""
DetectZeroes = Literal["off", "on", "unmap"]
Repair = Literal["leaks", "all"]
Mode = Literal["r", "rb", "r+", "r+b", "rb+"]
"""How to open: to read, or to read and write."""
OptionValue = str | int | bool
StrSize = int | str
"""Bytes, or a text such as `"64K"`."""
Switch = bool | str
"""On or off; a text as on a command line."""
Progress = Callable[[int, int], object]
"""Called with bytes done and bytes in all; the second is 0 while nobody knows it (a stream)."""


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
    """What can be changed in an image: the options of `fvd amend -o help`, under all of their names."""

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
    """A range of the virtual disk whose bytes all come from the same place; one entry of `map`."""

    start: int
    length: int
    depth: int
    """0: this image, 1: its base, and so on."""
    present: bool
    """Some layer of the chain holds it."""
    zero: bool
    """It reads as zeros."""
    data: bool
    """It has storage behind it."""
    compressed: bool
    """It is stored compressed: in a qcow2 image of the chain."""
    offset: NotRequired[int]
    """Where it starts in `filename`, when it lies there as it is."""
    filename: NotRequired[str]


class FormatSpecific(TypedDict):
    """What only one format has to say."""

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
"""A snapshot inside a qcow2 image. fvd reads what the disk holds now, not what it held then."""

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
"""One image, as `qemu-img info --output=json` tells it; no virtual size where the format is not read."""

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

A cluster is a chunk of a compact image, a block what one bit of the bitmap stands for. `suspect`: the image
was not closed and has no journal to recover from. `needs-recovery`: it was not closed; its journal is
replayed when it is next opened. `data-file-unchecked`: it names a data file, which is opened only with
`backing_chain`.
"""


class CompareResult(TypedDict):
    """How two disks differ."""

    identical: bool
    reason: Literal["content", "size", "status"] | None
    """`size` and `status` (what is known without reading) only in strict mode; None when identical."""
    offset: int | None
    """Bytes: the first sector whose content differs, or where the status does; None for `size`."""
    size_a: int
    size_b: int


class CreateResult(TypedDict):
    """The image that was created."""

    filename: str
    format: str
    size: int
    options: dict[str, OptionValue]
    """As used, defaults filled in, in the order to show them; base and its format included."""
    needs_trust: list[str]
    """Directories of files it names that must be trusted (`trust=`, `--trust`) before it can be opened."""


class ConvertResult(TypedDict):
    """What a conversion did."""

    format: str
    size: int
    """Bytes of the source's disk. An FVD image has them rounded up to 512."""


DiskStats = TypedDict(
    "DiskStats",
    {
        "base-bytes": int,
        "local-bytes": int,
        "totals": dict[str, int],
    },
)
"""How far an image is from needing no base: `local-bytes` of `base-bytes`, as the next open
finds it: with the journal of an image that was not closed, without what only the memory of a process knows.

`totals` has the counters of `Image.stats()`, summed up over all sessions that changed the image and were
closed.
"""

PrefetchState = Literal[
    "waiting", "running", "yielding", "paused", "throttled", "backing-off", "finished", "failed", "stopped"
]
"""`yielding`: to requests of the guest. `throttled`: a pause because others use the base, too. `backing-off`:
the base has failed and is tried again later."""

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
"""How far prefetch is. Bytes, and bytes a second of late.

`total`: what the base covers. `local`: what is local of it, however it came there. `fetched`: what prefetch
has read from the base itself, and stored (zeros without taking space). `zeros`: what it has made local
without reading it, because the base is known to hold zeros there (a hole, say); zeros that take space in
the base are read, and count as fetched. `reason`: why it pauses on its own, while it does. `error`: why it
failed, or the last failure of the base.
"""


class ExportStats(TypedDict):
    """How one disk of a server does."""

    image: dict[str, int] | None
    """Counters since it was opened; None of a disk that is no image."""
    prefetch: PrefetchStatus | None
    """None where nothing comes from a base."""


class ConnectionCounts(TypedDict):
    """Connections of a server."""

    now: int
    total: int
    """Served since the start."""
    refused: int
    """Closed as they came, because there were too many."""
    failed: int
    """Ended as nobody meant them to."""


class RequestCounts(TypedDict):
    """Requests of one kind since the start of a server."""

    requests: int
    bytes: int
    """Of those that succeeded."""
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
could not be (out of bounds, unknown); they are in no other count. `polled`: requests that came while they
were looked for, before a thread had to be woken."""

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

`entries` are offset and length, in bytes of the disk, in the order in which they are fetched; no byte occurs
twice. `bytes` is their sum, `capacity` how many the image has room for, `unit` what they are rounded to.
`recording`: the next session records a profile, because the image is to have one and has none.
"""


class ImportedProfile(TypedDict):
    """What an image has taken of a profile."""

    entries: int
    """As they are stored: whole units, neighbours merged."""
    bytes: int
    beyond_disk: int
    """Entries offered that reach beyond the disk: they were cut or left out."""
    no_room: int
    """Entries offered that were left out, the first of them perhaps in part, for lack of room."""


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
    """The metadata of an image as it stands on disk, nothing recovered."""

    filename: str
    header: dict[str, Any]
    """Every field by its name, in the order on disk; strings without their padding."""
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
