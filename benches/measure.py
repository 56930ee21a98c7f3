"""Measuring and reporting of figures."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

Command = Sequence[str | Path]


def fvd_command() -> list[str]:
    """The command installed for this interpreter; without one, its module."""
    script = Path(sys.executable).parent / "fvd"
    return [os.fspath(script)] if script.exists() else [sys.executable, "-m", "fvd"]


def run(command: Command) -> None:
    subprocess.run([os.fspath(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def processor_seconds(action: Callable[[], object]) -> float:
    """The processor time of the child processes that `action` runs and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def interleaved(runs: int, *sides: Callable[[], float]) -> list[float]:
    """Median of `runs` measurements of each side. The sides alternate, and also alternate in being first."""
    measured: list[list[float]] = [[] for _ in sides]
    for number in range(runs):
        order = list(enumerate(sides))
        for side, measure in order if number % 2 == 0 else reversed(order):
            measured[side].append(measure())
    return [statistics.median(values) for values in measured]


@dataclass(frozen=True)
class Figure:
    """A row of the table. Without `aim` it is only for comparison."""

    name: str
    ours: float
    theirs: float | None
    unit: str
    ratio: float | None
    aim: str | None
    reached: bool | None


class Report:
    """Prints each figure when it is measured, and stores it."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def heading(self, text: str) -> None:
        print(f"\n     {text:<46} {'ours':>10} {'theirs':>10}      {'ratio':>7}  aim")

    def at_most(self, name: str, ours: float, theirs: float, unit: str, limit: float) -> None:
        """The ratio of two times or sizes: less is better."""
        ratio = ours / theirs
        self._add(Figure(name, ours, theirs, unit, ratio, f"at most {limit:g}", ratio <= limit))

    def at_least(self, name: str, ours: float, theirs: float, unit: str, limit: float) -> None:
        """The ratio of two rates: more is better."""
        ratio = ours / theirs
        self._add(Figure(name, ours, theirs, unit, ratio, f"at least {limit:g}", ratio >= limit))

    def below(self, name: str, value: float, unit: str, limit: float) -> None:
        """One value with a fixed limit."""
        self._add(Figure(name, value, None, unit, None, f"below {limit:g} {unit}", value < limit))

    def note(self, name: str, ours: float, unit: str, theirs: float | None = None) -> None:
        """A value without a target."""
        ratio = None if theirs is None else ours / theirs
        self._add(Figure(name, ours, theirs, unit, ratio, None, None))

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        mark = {None: "    ", True: "ok  ", False: "MISS"}[figure.reached]
        theirs = "" if figure.theirs is None else f"{figure.theirs:.4g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
        values = f"{figure.ours:>10.4g} {theirs:>10} {figure.unit:<4} {ratio:>7}"
        print(f"{mark} {figure.name:<46} {values}  {figure.aim or ''}".rstrip(), flush=True)

    def summary(self) -> None:
        with_aim = [figure for figure in self.figures if figure.aim]
        missed = [figure for figure in with_aim if not figure.reached]
        print(f"\n{len(with_aim) - len(missed)} of {len(with_aim)} reach their aim")
        for figure in missed:
            print(f"MISS {figure.name}")

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([asdict(figure) for figure in self.figures], indent=1) + "\n")
