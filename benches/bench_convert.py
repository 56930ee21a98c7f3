"""`fvd convert` beside `qemu-img convert`, whole processes, same cache mode on both sides."""

import random
from collections.abc import Callable
from pathlib import Path

from measure import GIB, MIB, Command, Report, fvd_command, interleaved, run, seconds

OURS: dict[str, list[str]] = {
    "fvd": ["-O", "fvd"],
    "compact fvd": ["-O", "fvd", "-o", "compact_image=on"],
    "raw": ["-O", "raw"],
}
THEIRS = {"qcow2": ["-O", "qcow2"], "raw": ["-O", "raw"]}
# What `fvd` may take of the time of `qemu-img`. Past the page cache both wait for the disk: no aim.
CACHES = {"unsafe": 0.8, "none": None}


def bench(report: Report, folder: Path, runs: int) -> None:
    for kind, density in (("random", 1.0), ("sparse", 0.1)):
        source, target = folder / f"{kind}.raw", folder / "target"
        random_raw(source, GIB, density)
        for cache, limit in CACHES.items():
            report.heading(f"convert 1 GiB, {kind}, -t {cache}")

            def conversion(program: Command, options: Command) -> Callable[[], float]:
                command = [*program, "convert", "-t", cache, "-f", "raw", *options, source, target]

                def measure() -> float:
                    warm(source)
                    taken = seconds(lambda: run(command))
                    target.unlink()
                    return taken

                return measure

            medians = interleaved(
                runs,
                *(conversion(fvd_command(), options) for options in OURS.values()),
                *(conversion(["qemu-img"], options) for options in THEIRS.values()),
            )
            times = dict(zip([*OURS, *(f"qemu {name}" for name in THEIRS)], medians, strict=True))
            for ours in OURS:
                for theirs in THEIRS:
                    name = f"to {ours}, vs qemu-img to {theirs}"
                    if limit is None:
                        report.note(name, times[ours], "s", times[f"qemu {theirs}"])
                    else:
                        report.at_most(name, times[ours], times[f"qemu {theirs}"], "s", limit)
        source.unlink()


def warm(path: Path) -> None:
    """Bring the file back into the page cache: what has not been used for a while may have been reclaimed."""
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def random_raw(path: Path, size: int, density: float) -> None:
    """A raw disk of random pieces of 1 MiB, and holes."""
    rng = random.Random(size)
    with path.open("w+b") as file:
        file.truncate(size)
        for offset in range(0, size, MIB):
            if rng.random() < density:
                file.seek(offset)
                file.write(rng.randbytes(MIB))
