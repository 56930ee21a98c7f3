"""Speed and size beside qemu-img and plain system calls: both sides in one run, taking turns.

    make bench                          everything
    make bench ARGS='convert python'    some of it: convert python open start

Each figure is the median of N runs (--runs) of each side, interleaved, so that what disturbs the machine
disturbs both. Printed is the ratio, and what is aimed at. Not a test: the exit status is 0 whatever comes
out, unless something could not be measured. Files go to --folder (default: benches/results), which should be
on the file system that matters; a copy of what is printed stays there as JSON.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import fvd
from fvd import _fvd

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
FVD = str(Path(sys.executable).parent / "fvd")
Command = Sequence[str | Path]


@dataclass(frozen=True)
class Figure:
    name: str
    ours: float
    theirs: float | None
    unit: str
    ratio: float
    aim: str
    reached: bool


class Report:
    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        beside = "" if figure.theirs is None else f" / {figure.theirs:.4g}"
        mark = "ok  " if figure.reached else "MISS"
        values = f"{figure.ours:.4g}{beside} {figure.unit}"
        print(f"{mark} {figure.name:<60} {figure.ratio:6.3f}  ({values}; {figure.aim})", flush=True)

    def at_most(self, name: str, ours: float, theirs: float, unit: str, limit: float) -> None:
        """The ratio of two times or sizes: less is better."""
        ratio = ours / theirs
        self.add(Figure(name, ours, theirs, unit, ratio, f"at most {limit}", ratio <= limit))

    def at_least(self, name: str, ours: float, theirs: float, unit: str, limit: float) -> None:
        """The ratio of two rates: more is better."""
        ratio = ours / theirs
        self.add(Figure(name, ours, theirs, unit, ratio, f"at least {limit}", ratio >= limit))

    def below(self, name: str, value: float, unit: str, limit: float) -> None:
        """One value against a fixed limit; the ratio is value to limit."""
        self.add(Figure(name, value, None, unit, value / limit, f"below {limit:g} {unit}", value < limit))


def run(command: Command) -> None:
    subprocess.run([os.fspath(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def interleaved(runs: int, *sides: Callable[[], float]) -> list[float]:
    """Median of `runs` measurements of each side; the sides take turns, and take turns in being first."""
    measured: list[list[float]] = [[] for _ in sides]
    for number in range(runs):
        order = list(enumerate(sides))
        for side, measure in order if number % 2 == 0 else reversed(order):
            measured[side].append(measure())
    return [statistics.median(values) for values in measured]


def random_raw(path: Path, size: int, density: float) -> None:
    """A raw disk: random pieces of 1 MiB, and holes."""
    rng = random.Random(size)
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            if rng.random() < density:
                file.seek(offset)
                file.write(rng.randbytes(MIB))
        file.truncate(size)
        os.fsync(file.fileno())


def bench_convert(report: Report, folder: Path, runs: int) -> None:
    """Raw to FVD, beside raw to qcow2 and raw to raw, same cache mode on both sides."""

    def conversion(command: Command, source: Path, target: Path) -> Callable[[], float]:
        def measure() -> float:
            target.unlink(missing_ok=True)
            os.sync()  # nobody pays for what the run before left behind
            taken = seconds(lambda: run([*command, source, target]))
            target.unlink()
            return taken

        return measure

    for kind, density in (("random", 1.0), ("sparse", 0.1)):
        source, target = folder / f"{kind}.raw", folder / "target"
        random_raw(source, GIB, density)
        source.read_bytes()  # warm
        for cache in ("writeback", "none"):
            modes = ["-t", cache, "-T", cache, "-f", "raw"]
            plain, compact, qcow2, raw = interleaved(
                runs,
                conversion([FVD, "convert", *modes, "-O", "fvd"], source, target),
                conversion([FVD, "convert", *modes, "-O", "fvd", "-o", "compact_image=on"], source, target),
                conversion(["qemu-img", "convert", *modes, "-O", "qcow2"], source, target),
                conversion(["qemu-img", "convert", *modes, "-O", "raw"], source, target),
            )
            for ours, value in (("plain", plain), ("compact", compact)):
                for theirs, other in (("qcow2", qcow2), ("raw", raw)):
                    name = f"convert 1 GiB {kind} to {ours}, cache={cache}, vs qemu-img {theirs}"
                    report.at_most(name, value, other, "s", 0.8)
        source.unlink()


def bench_python(report: Report, folder: Path, runs: int) -> None:
    """pread and pwrite of local data with a warm page cache, beside os.pread and os.pwrite on a raw file."""
    size = 256 * MIB
    image_path, raw_path = folder / "python.fvd", folder / "python.raw"
    for layout, options in (("plain", {}), ("compact", {"compact_image": True})):
        fvd.create(image_path, size, options=options)
        raw_fd = os.open(raw_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        with fvd.open(image_path, "r+") as image:
            for offset in range(0, size, MIB):
                piece = os.urandom(MIB)
                image.pwrite(piece, offset)
                os.pwrite(raw_fd, piece, offset)
            image.flush()
            os.fsync(raw_fd)
            for length, count, limit in ((4 * KIB, 40_000, 0.7), (MIB, 400, 0.95)):
                rng = random.Random(length)
                offsets = [rng.randrange(size // length) * length for _ in range(count)]
                block = os.urandom(length)

                # No indirection around the call that is measured: it would be a part of what is compared.
                def image_pread(
                    image: fvd.Image = image, offsets: list[int] = offsets, length: int = length
                ) -> float:
                    pread = image.pread
                    started = time.perf_counter()
                    for offset in offsets:
                        pread(length, offset)
                    return len(offsets) / (time.perf_counter() - started)

                def raw_pread(fd: int = raw_fd, offsets: list[int] = offsets, length: int = length) -> float:
                    pread = os.pread
                    started = time.perf_counter()
                    for offset in offsets:
                        pread(fd, length, offset)
                    return len(offsets) / (time.perf_counter() - started)

                def image_pwrite(
                    image: fvd.Image = image, offsets: list[int] = offsets, block: bytes = block
                ) -> float:
                    pwrite = image.pwrite
                    started = time.perf_counter()
                    for offset in offsets:
                        pwrite(block, offset)
                    return len(offsets) / (time.perf_counter() - started)

                def raw_pwrite(fd: int = raw_fd, offsets: list[int] = offsets, block: bytes = block) -> float:
                    pwrite = os.pwrite
                    started = time.perf_counter()
                    for offset in offsets:
                        pwrite(fd, block, offset)
                    return len(offsets) / (time.perf_counter() - started)

                for verb, ours, theirs in (
                    ("pread", image_pread, raw_pread),
                    ("pwrite", image_pwrite, raw_pwrite),
                ):
                    our_rate, their_rate = interleaved(runs, ours, theirs)
                    name = f"{verb} {length // KIB} KiB, {layout}, vs os.{verb}"
                    report.at_least(name, our_rate, their_rate, "/s", limit)
        os.close(raw_fd)
        image_path.unlink()
        raw_path.unlink()


# Run in a process of its own: its memory is that of the interpreter, the module and the image.
OPEN = """
import resource, sys, time
import fvd
started = time.perf_counter()
image = fvd.open(sys.argv[1], sys.argv[2])
taken = time.perf_counter() - started
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
image.close()
"""


def bench_open(report: Report, folder: Path, runs: int) -> None:
    """A compact image of 16 TiB: create it, open it; time in the process, memory of the whole process."""
    path = folder / "large.fvd"
    options: dict[str, int | bool | str] = {"compact_image": True}

    def create() -> float:
        path.unlink(missing_ok=True)
        return seconds(lambda: fvd.create(path, 16 * TIB, options=options)) * 1000

    (taken,) = interleaved(runs, create)
    report.below("create of a 16 TiB compact image", taken, "ms", 10)

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
        report.below(f"open of a 16 TiB compact image, {mode}", taken, "ms", 20)
        report.below(f"memory of a process that has it open, {mode}", statistics.median(memory), "MiB", 100)
    path.unlink()


def bench_start(report: Report, folder: Path, runs: int) -> None:
    """What a script pays for every call of the command."""
    target = folder / "start.fvd"
    version, create, qemu = interleaved(
        runs,
        lambda: seconds(lambda: run([FVD, "--version"])) * 1000,
        lambda: seconds(lambda: run([FVD, "create", "-q", target, "1G"])) * 1000,
        lambda: seconds(lambda: run(["qemu-img", "create", "-q", "-f", "qcow2", target, "1G"])) * 1000,
    )
    report.below("fvd --version", version, "ms", 80)
    print(f"     fvd create {create:.1f} ms, qemu-img create {qemu:.1f} ms (whole processes)")
    target.unlink()


BENCHES = {"convert": bench_convert, "python": bench_python, "open": bench_open, "start": bench_start}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and size beside qemu-img and plain system calls.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(BENCHES)}; all by default")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    arguments = parser.parse_args()
    unknown = set(arguments.what) - set(BENCHES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if shutil.which("qemu-img") is None:
        parser.error("qemu-img is missing: scripts/install-tools.sh installs it")
    if _fvd.DEBUG_BUILD:
        parser.error("this is a debug build of fvd; `make build` makes one worth measuring")
    arguments.folder.mkdir(parents=True, exist_ok=True)

    version = subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True).stdout
    print(f"fvd {fvd.__version__}, {version.splitlines()[0]}, Python {platform.python_version()}")
    print(f"{platform.platform()}, {os.cpu_count()} cores; medians of {arguments.runs}, ratio ours/theirs\n")
    report = Report()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.what or BENCHES:
            BENCHES[name](report, Path(folder), arguments.runs)
    missed = [figure for figure in report.figures if not figure.reached]
    print(f"\n{len(report.figures) - len(missed)} of {len(report.figures)} reach their aim")
    results = arguments.folder / time.strftime("%Y%m%d-%H%M%S.json")
    results.write_text(json.dumps([asdict(figure) for figure in report.figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
