"""The cost of a call of the command in a script: whole processes, as time and as processor time."""

import sys
from collections.abc import Callable
from pathlib import Path

from .measure import Command, Report, fvd_command, interleaved, processor_seconds, run, seconds

RUNS = 15
"""At least so many: the times are short."""


def bench(report: Report, folder: Path, runs: int) -> None:
    image, qcow2, target = folder / "start.fvd", folder / "start.qcow2", folder / "target"
    run([*fvd_command(), "create", "-q", image, "1G"])
    run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1G"])
    commands: dict[str, Command] = {
        "python": [sys.executable, "-c", "pass"],
        "--version": [*fvd_command(), "--version"],
        "info": [*fvd_command(), "info", image],
        "create": [*fvd_command(), "create", "-q", target, "1G"],
        "convert": [*fvd_command(), "convert", "-O", "raw", image, target],
        "qemu-img info": ["qemu-img", "info", qcow2],
        "qemu-img create": ["qemu-img", "create", "-q", "-f", "qcow2", target, "1G"],
        "qemu-img convert": ["qemu-img", "convert", "-O", "raw", qcow2, target],
    }
    for what, measured in (("", seconds), ("processor time", processor_seconds)):
        report.heading(f"start, whole processes {what}".rstrip())
        sides = [milliseconds(command, measured, target) for command in commands.values()]
        took = dict(zip(commands, interleaved(max(runs, RUNS), *sides), strict=True))
        report.note("fvd --version, vs the bare interpreter", took["--version"], "ms", took["python"])
        report.below("fvd info, beyond the bare interpreter", took["info"] - took["python"], "ms", 15)
        for name in ("info", "create", "convert"):
            of_empty = " of nothing" if name == "convert" else ""
            report.note(f"fvd {name}{of_empty}, vs qemu-img", took[name], "ms", took[f"qemu-img {name}"])
    image.unlink()
    qcow2.unlink()


def milliseconds(
    command: Command, measured: Callable[[Callable[[], object]], float], target: Path
) -> Callable[[], float]:
    def measure() -> float:
        taken = measured(lambda: run(command)) * 1000
        target.unlink(missing_ok=True)
        return taken

    return measure
