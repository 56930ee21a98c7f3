"""The cost of a call of the command in a script: whole processes."""

import sys
from collections.abc import Callable
from pathlib import Path

from measure import Command, Report, fvd_command, interleaved, run, seconds


def bench(report: Report, folder: Path, runs: int) -> None:
    report.heading("start, whole processes")
    image, qcow2, target = folder / "start.fvd", folder / "start.qcow2", folder / "target"
    run([*fvd_command(), "create", "-q", image, "1G"])
    run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1G"])

    def process(*command: str | Path) -> Callable[[], float]:
        return lambda: seconds(lambda: run(command)) * 1000

    def ours(*arguments: str | Path) -> Callable[[], float]:
        command: Command = [*fvd_command(), *arguments]
        return process(*command)

    python, version, info, their_info, create, their_create = interleaved(
        max(runs, 11),
        process(sys.executable, "-I", "-c", "pass"),
        ours("--version"),
        ours("info", image),
        process("qemu-img", "info", qcow2),
        ours("create", "-q", target, "1G"),
        process("qemu-img", "create", "-q", "-f", "qcow2", target, "1G"),
    )
    report.below("fvd --version", version, "ms", 80)
    report.note("the same, vs the bare interpreter", version, "ms", python)
    report.note("fvd info, vs qemu-img info", info, "ms", their_info)
    report.note("fvd create, vs qemu-img create", create, "ms", their_create)
    for path in (image, qcow2, target):
        path.unlink()
