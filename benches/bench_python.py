"""`pread` and `pwrite` of local data with a warm page cache, compared with those of `os` on a raw file.

The data of an image starts after its metadata: in a plain image, 8 KiB into the file. The page cache keeps a
file in units as large as the sizes and the alignment of its writes allow, and the cost of a call depends on
the size of these units. To compare the calls and not the units, the raw file has its data at the same offset.
The comparison with a raw file whose data starts at 0 is printed without a target.
"""

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from .measure import KIB, MIB, Report, interleaved

SIZE = 256 * MIB
LAYOUTS: dict[str, ImageOptions] = {"plain": {}, "compact": {"compact_image": True}}


def bench(report: Report, folder: Path, runs: int) -> None:
    for layout, options in LAYOUTS.items():
        image_path, raw_path = folder / "python.fvd", folder / "python.raw"
        fvd.create(image_path, SIZE, options=options)
        data_start = int(fvd.dump(image_path)["header"]["metadata_size"])
        for start in (data_start, 0):
            report.heading(f"Python, {layout}; raw data starts at {start}")
            with fvd.open(image_path, "r+") as image, raw_path.open("w+b", buffering=0) as file:
                raw = Raw(file.fileno(), start)
                # The same content on both sides.
                file.truncate(start + SIZE)
                for offset in range(0, SIZE, MIB):
                    piece = os.urandom(MIB)
                    image.pwrite(piece, offset)
                    os.pwrite(raw.fd, piece, start + offset)
                image.flush()
                os.fsync(raw.fd)
                judged = start == data_start
                compare(report, image, raw, 4 * KIB, 40_000, 0.7 if judged else None, runs)
                compare(report, image, raw, MIB, 400, 0.95 if judged else None, runs)
        image_path.unlink()
        raw_path.unlink()


@dataclass(frozen=True)
class Raw:
    """A raw disk in a file."""

    fd: int
    start: int
    """Offset of the disk in the file, in bytes."""


def compare(
    report: Report, image: fvd.Image, raw: Raw, length: int, count: int, limit: float | None, runs: int
) -> None:
    rng = random.Random(length)
    offsets = [rng.randrange(SIZE // length) * length for _ in range(count)]
    places = [raw.start + offset for offset in offsets]
    block = os.urandom(length)
    sides = {
        "pread": (lambda: image_pread(image, offsets, length), lambda: raw_pread(raw.fd, places, length)),
        "pwrite": (lambda: image_pwrite(image, offsets, block), lambda: raw_pwrite(raw.fd, places, block)),
    }
    for verb, (ours, theirs) in sides.items():
        our_rate, their_rate = interleaved(max(runs, 11), ours, theirs)
        name = f"{verb} of {length // KIB} KiB, vs os.{verb}"
        if limit is None:
            report.note(name, our_rate, "/s", their_rate)
        else:
            report.at_least(name, our_rate, their_rate, "/s", limit)


# No indirection around the measured call, because it would be measured too.


def image_pread(image: fvd.Image, offsets: Sequence[int], length: int) -> float:
    pread = image.pread
    started = time.perf_counter()
    for offset in offsets:
        pread(length, offset)
    return len(offsets) / (time.perf_counter() - started)


def raw_pread(fd: int, offsets: Sequence[int], length: int) -> float:
    pread = os.pread
    started = time.perf_counter()
    for offset in offsets:
        pread(fd, length, offset)
    return len(offsets) / (time.perf_counter() - started)


def image_pwrite(image: fvd.Image, offsets: Sequence[int], block: bytes) -> float:
    pwrite = image.pwrite
    started = time.perf_counter()
    for offset in offsets:
        pwrite(block, offset)
    return len(offsets) / (time.perf_counter() - started)


def raw_pwrite(fd: int, offsets: Sequence[int], block: bytes) -> float:
    pwrite = os.pwrite
    started = time.perf_counter()
    for offset in offsets:
        pwrite(fd, block, offset)
    return len(offsets) / (time.perf_counter() - started)
