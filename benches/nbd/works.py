"""The loads."""

from collections.abc import Sequence
from dataclasses import dataclass

CACHED = ("fvd", "fvd-compact", "qemu-raw", "qemu-qcow2", "qemu-qcow2-uring", "nbdkit-file", "nbdkit-null")
DIRECT = (
    "fvd-direct",
    "fvd-raw-direct",
    "fvd-compact-direct",
    "qemu-raw-uring",
    "qemu-qcow2-uring",
    "nbdkit-null",
)


@dataclass(frozen=True)
class Work:
    """A load, the disks that it needs, and the servers that run it."""

    name: str
    title: str
    disk: str
    """`full` of data, `written` or `converted` (as `Disks.make` says), `empty`, an `overlay` over a full
    one, or `huge`. All but the first are made anew for each run."""
    fio: Sequence[str]
    servers: Sequence[str]
    """The others are compared with the first one."""
    value: str = "kIOPS"
    clients: int = 1


TIMED = ("--time_based", "--norandommap")
WORKS = {
    work.name: work
    for work in (
        Work(
            "randread32",
            "4 KiB random reads of cached data, 32 at once",
            "full",
            ("--rw=randread", "--bs=4k", "--iodepth=32", *TIMED),
            CACHED,
        ),
        Work(
            "randread1",
            "4 KiB random reads of cached data, one at a time",
            "full",
            ("--rw=randread", "--bs=4k", "--iodepth=1", *TIMED),
            CACHED,
        ),
        Work(
            "seqread",
            "1 MiB sequential reads of cached data, 4 at once",
            "full",
            ("--rw=read", "--bs=1M", "--iodepth=4", "--time_based"),
            CACHED,
            value="MiB/s",
        ),
        # Each block is written only once. A timed run would have a second pass, which would find allocated
        # storage.
        Work(
            "randwrite32",
            "4 KiB random writes that allocate, 32 at once",
            "empty",
            ("--rw=randwrite", "--bs=4k", "--iodepth=32"),
            CACHED,
        ),
        Work(
            "overwrite32",
            "4 KiB random overwrites, 32 at once",
            "written",
            ("--rw=randwrite", "--bs=4k", "--iodepth=32", *TIMED),
            CACHED,
        ),
        Work(
            "converted",
            "4 KiB random overwrites of a disk that was just converted (raw: with cp), 32 at once",
            "converted",
            ("--rw=randwrite", "--bs=4k", "--iodepth=32", *TIMED),
            ("nbdkit-file", "fvd", "fvd-compact", "fvd-raw", "qemu-raw", "qemu-qcow2"),
        ),
        Work(
            "flush8",
            "4 KiB random writes that allocate, past the page cache, a flush after every 8",
            "empty",
            ("--rw=randwrite", "--bs=4k", "--iodepth=32", "--fsync=8"),
            DIRECT,
        ),
        Work(
            "overlay",
            "4 KiB random writes over a base, 32 at once",
            "overlay",
            ("--rw=randwrite", "--bs=4k", "--iodepth=32"),
            ("fvd-4k", "fvd-64k", "qemu-qcow2", "qemu-qcow2-sub"),
        ),
        Work(
            "memory",
            "16 clients, 4 KiB random reads and writes on a disk of 1 TiB",
            "huge",
            ("--rw=randrw", "--bs=4k", "--iodepth=8", *TIMED),
            ("fvd", "fvd-compact", "qemu-raw", "qemu-qcow2", "nbdkit-file"),
            value="MiB peak",
            clients=16,
        ),
    )
}
