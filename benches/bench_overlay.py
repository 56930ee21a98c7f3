"""Overlays: the time until the first read, and how much of the base a small write reads."""

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from .measure import GIB, KIB, MIB, Report, fvd_command, interleaved, run, seconds

WRITES = 2048
WRITE_LEN = 4 * KIB


def bench_first_read(report: Report, folder: Path, runs: int) -> None:
    report.heading("first read of a disk of 4 GiB from a template")
    base, target = folder / "base.raw", folder / "disk"
    random_base(base, 4 * GIB)

    def overlay() -> None:
        fvd.create(target, backing_file=base.name, backing_format="raw")
        read_once()

    def overlay_by_command() -> None:
        run([*fvd_command(), "create", "-q", "-b", base.name, "-F", "raw", target])
        read_once()

    def read_once() -> None:
        with fvd.open(target) as image:
            assert len(image.pread(WRITE_LEN, random.randrange(GIB) * 4)) == WRITE_LEN

    def fresh(action: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            target.unlink(missing_ok=True)
            return seconds(action)

        return measure

    in_process, by_command, copied, converted = interleaved(
        min(runs, 3),
        fresh(overlay),
        fresh(overlay_by_command),
        fresh(lambda: run(["cp", "--sparse=never", "--reflink=never", base, target])),
        fresh(lambda: run(["qemu-img", "convert", "-f", "raw", "-O", "raw", base, target])),
    )
    report.at_most("create and read, vs cp", in_process, copied, "s", 0.01)
    report.at_most("create and read, vs qemu-img convert", in_process, converted, "s", 0.01)
    report.note("the same with `fvd create`, vs cp", by_command, "s", copied)
    target.unlink()
    base.unlink()


def bench_copy_on_write(report: Report, folder: Path, runs: int) -> None:
    report.heading(f"{WRITES} random writes of 4 KiB over 1 GiB, flushed every 64: per write")
    base, target = folder / "base.raw", folder / "overlay"
    random_base(base, GIB)
    rng = random.Random(runs)
    offsets = [rng.randrange(GIB // WRITE_LEN) * WRITE_LEN for _ in range(WRITES)]
    theirs = qcow2_base_reads(base, target, offsets) / WRITES
    for block_size, limit in ((64 * KIB, None), (4 * KIB, 0.25), (512, 0.25)):
        options: ImageOptions = {"block_size": block_size}
        fvd.create(target, backing_file=base.name, backing_format="raw", options=options)
        with fvd.open(target, "r+") as image:
            started = time.perf_counter()
            for number, offset in enumerate(offsets, 1):
                image.pwrite(b"x" * WRITE_LEN, offset)
                if number % 64 == 0:
                    image.flush()
            taken = time.perf_counter() - started
            stats = image.stats()
        name = f"read from the base, blocks of {block_size}, vs qcow2"
        ours = stats["base-read-bytes"] / WRITES
        if limit is None:
            report.note(name, ours, "B", theirs)
        else:
            report.at_most(name, ours, theirs, "B", limit)
        report.note(
            f"written to the journal, blocks of {block_size}", stats["journal-sectors"] * 512 / WRITES, "B"
        )
        report.note(f"time, blocks of {block_size}", taken / WRITES * 1e6, "us")
        target.unlink()
    base.unlink()


def qcow2_base_reads(base: Path, target: Path, offsets: list[int]) -> float:
    """Bytes that `qemu-io` reads for the same writes, without those that it reads for an empty run."""
    command = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        os.fspath(base),
        "-F",
        "raw",
        os.fspath(target),
    ]
    run(command)
    idle = bytes_read(target, [])
    commands = []
    for number, offset in enumerate(offsets, 1):
        commands.append(f"write -q -P 120 {offset} {WRITE_LEN}")
        if number % 64 == 0:
            commands.append("flush")
    taken = bytes_read(target, commands)
    target.unlink()
    return taken - idle


def bytes_read(image: Path, commands: list[str]) -> int:
    """Bytes that a run of `qemu-io` read, as counted by the kernel. The count of a shell includes its
    children.
    """
    script = 'qemu-io -f qcow2 "$1" > /dev/null && grep rchar "/proc/$$/io"'
    said = subprocess.run(
        ["sh", "-c", script, "sh", os.fspath(image)],
        input="".join(f"{command}\n" for command in [*commands, "quit"]),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return int(said.split()[-1])


def random_base(path: Path, size: int) -> None:
    """Random pieces of 1 MiB, with few repetitions."""
    pieces = [os.urandom(MIB) for _ in range(64)]
    rng = random.Random(size)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(rng.choice(pieces))
