"""Create and open in the process, and the memory of a process that has a huge image open."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from .measure import GIB, KIB, MIB, TIB, Report, interleaved

COMPACT: ImageOptions = {"compact_image": True}

# Runs in a separate process, whose memory is that of the interpreter, the module and the image.
OPEN = """
import resource, sys, time
import fvd
from fvd.types import ImageOptions
started = time.perf_counter()
image = fvd.open(sys.argv[1], sys.argv[2])
taken = time.perf_counter() - started
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
image.close()
"""


def bench_create(report: Report, folder: Path, runs: int) -> None:
    report.heading("create, in the process")
    path, base = folder / "created.fvd", folder / "base.raw"
    with base.open("wb") as file:
        file.truncate(20 * GIB)

    def creation(create: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            path.unlink(missing_ok=True)
            started = time.perf_counter()
            create()
            return (time.perf_counter() - started) * 1000

        return measure

    plain, overlay, compact, huge, bare = interleaved(
        runs,
        creation(lambda: fvd.create(path, 20 * GIB)),
        creation(lambda: fvd.create(path, backing_file=base.name, backing_format="raw")),
        creation(lambda: fvd.create(path, 20 * GIB, options=COMPACT)),
        creation(lambda: fvd.create(path, 16 * TIB, options=COMPACT)),
        creation(lambda: write_table(path)),
    )
    report.below("plain, 20 GiB", plain, "ms", 10)
    report.below("overlay of 20 GiB", overlay, "ms", 10)
    report.below("compact, 20 GiB", compact, "ms", 10)
    report.below("compact, 16 TiB: a table of 64 MiB", huge, "ms", 10)
    report.note("the same, vs a bare pwritev of 64 MiB", huge, "ms", bare)
    path.unlink()
    base.unlink()


def write_table(path: Path) -> None:
    """The minimum cost of the table of a compact image of 16 TiB: 64 MiB that are not zeros."""
    fill = b"\xff" * (64 * KIB)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    at = 0
    while at < 64 * MIB:
        at += os.pwritev(fd, [fill] * 512, at)
    os.close(fd)


def bench_open(report: Report, folder: Path, runs: int) -> None:
    report.heading("open of a 16 TiB compact image, a process each")
    path = folder / "large.fvd"
    fvd.create(path, 16 * TIB, options=COMPACT)
    memory: list[float] = []

    def opened(mode: str) -> Callable[[], float]:
        def measure() -> float:
            command = [sys.executable, "-c", OPEN, os.fspath(path), mode]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            taken, rss = said.split()
            memory.append(int(rss) / KIB)
            return float(taken) * 1000

        return measure

    for mode in ("r", "r+"):
        memory.clear()
        (taken,) = interleaved(runs, opened(mode))
        report.below(f"time to open it, {mode!r}", taken, "ms", 20)
        report.below(f"memory of the process, {mode!r}", statistics.median(memory), "MiB", 100)
    path.unlink()
