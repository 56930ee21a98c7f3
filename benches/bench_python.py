"""`pread` and `pwrite` of local data with a warm page cache, beside those of `os` on a raw file."""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import fvd
from measure import KIB, MIB, Report, interleaved

SIZE = 256 * MIB
LAYOUTS: dict[str, dict[str, int | bool | str]] = {"plain": {}, "compact": {"compact_image": True}}


def bench(report: Report, folder: Path, runs: int) -> None:
    for layout, options in LAYOUTS.items():
        report.heading(f"Python, {layout} image, calls a second")
        image_path, raw_path = folder / "python.fvd", folder / "python.raw"
        fvd.create(image_path, SIZE, options=options)
        raw = os.open(raw_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        with fvd.open(image_path, "r+") as image:
            # The same pieces on both sides: the page cache keeps them in units as large as the writes.
            for offset in range(0, SIZE, MIB):
                piece = os.urandom(MIB)
                image.pwrite(piece, offset)
                os.pwrite(raw, piece, offset)
            image.flush()
            os.fsync(raw)
            compare(report, image, raw, 4 * KIB, 40_000, 0.7, runs)
            compare(report, image, raw, MIB, 400, 0.95, runs)
        os.close(raw)
        image_path.unlink()
        raw_path.unlink()


def compare(
    report: Report, image: fvd.Image, raw: int, length: int, count: int, limit: float, runs: int
) -> None:
    rng = random.Random(length)
    offsets = [rng.randrange(SIZE // length) * length for _ in range(count)]
    block = os.urandom(length)
    sides = {
        "pread": (lambda: image_pread(image, offsets, length), lambda: raw_pread(raw, offsets, length)),
        "pwrite": (lambda: image_pwrite(image, offsets, block), lambda: raw_pwrite(raw, offsets, block)),
    }
    for verb, (ours, theirs) in sides.items():
        our_rate, their_rate = interleaved(runs, ours, theirs)
        report.at_least(f"{verb} of {length // KIB} KiB, vs os.{verb}", our_rate, their_rate, "/s", limit)


# No indirection around the call that is measured: it would be a part of what is compared.


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
