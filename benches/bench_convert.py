"""`fvd convert` compared with `qemu-img convert`: whole processes, with the same cache mode on both sides."""

import random
from collections.abc import Callable
from pathlib import Path

from .measure import GIB, MIB, Command, Report, fvd_command, interleaved, run, seconds

OURS: dict[str, list[str]] = {
    "fvd": ["-O", "fvd"],
    "compact fvd": ["-O", "fvd", "-o", "compact_image=on"],
    "raw": ["-O", "raw"],
}
THEIRS = {"qcow2": ["-O", "qcow2"], "raw": ["-O", "raw"]}
CACHES = ("unsafe", "none")
# Limits for the time of `fvd`, relative to `qemu-img`. Without the page cache both wait for the disk: no
# limit. A tenth of data is copied in little more time than the interpreter needs to start.
LIMITS = {("random", "unsafe"): 0.8, ("sparse", "unsafe"): 1.0}


def bench(report: Report, folder: Path, runs: int) -> None:
    for kind, density in (("random", 1.0), ("sparse", 0.1)):
        source, target = folder / f"{kind}.raw", folder / "target"
        random_raw(source, GIB, density)
        for cache in CACHES:
            limit = LIMITS.get((kind, cache))
            report.heading(f"convert 1 GiB, {kind}, -t {cache}")
            modes = ["convert", "-t", cache, "-f", "raw"]
            ours = [[*fvd_command(), *modes, *options] for options in OURS.values()]
            theirs = [["qemu-img", *modes, *options] for options in THEIRS.values()]
            sides = (conversion(command, source, target) for command in (*ours, *theirs))
            medians = interleaved(runs, *sides)
            their_times = dict(zip(THEIRS, medians[len(OURS) :], strict=True))
            for our_format, our_time in zip(OURS, medians, strict=False):
                for their_format, their_time in their_times.items():
                    if our_format == "raw" and their_format != "raw":
                        continue
                    name = f"to {our_format}, vs qemu-img to {their_format}"
                    if limit is None:
                        report.note(name, our_time, "s", their_time)
                    else:
                        report.at_most(name, our_time, their_time, "s", limit)
        source.unlink()


def conversion(command: Command, source: Path, target: Path) -> Callable[[], float]:
    def measure() -> float:
        warm(source, target)
        taken = seconds(lambda: run([*command, source, target]))
        target.unlink()
        return taken

    return measure


def warm(source: Path, target: Path) -> None:
    """Gives each run the same start: the source in the page cache, and free memory for the target.

    Memory that was not used for a while may have been reclaimed, or returned to the host of a virtual
    machine. Getting it back from the host costs more than the copy, so this writes and removes a file first.
    """
    buffer = bytearray(MIB)
    with source.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    with target.open("wb", buffering=0) as file:
        for _ in range(GIB // MIB):
            file.write(buffer)
    target.unlink()


def random_raw(path: Path, size: int, density: float) -> None:
    """A raw disk of random pieces of 1 MiB, and holes."""
    rng = random.Random(size)
    with path.open("w+b") as file:
        file.truncate(size)
        for offset in range(0, size, MIB):
            if rng.random() < density:
                file.seek(offset)
                file.write(rng.randbytes(MIB))
