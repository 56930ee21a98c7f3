"""The table of the boots."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .runs import Run

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """The medians of the boots of a way with the same title."""

    way: str
    title: str
    seconds: float
    least: float
    most: float
    waiting: float
    mib: float
    requests: float
    processor: float

    @property
    def name(self) -> str:
        return self.way if self.title == "cold" else f"{self.way}: {self.title}"


def rows(runs: Sequence[Run]) -> list[Row]:
    """In the order in which the ways were first met."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.way, run.title), []).append(run)
    middle = statistics.median
    return [
        Row(
            way=way,
            title=title,
            seconds=middle(run.seconds for run in group),
            least=min(run.seconds for run in group),
            most=max(run.seconds for run in group),
            waiting=middle(run.machine.waiting for run in group),
            mib=middle(run.bytes for run in group) / MIB,
            requests=middle(run.requests for run in group),
            processor=middle(run.processor for run in group),
        )
        for (way, title), group in groups.items()
    ]


def table(runs: Sequence[Run]) -> str:
    head = (
        f"{'way':<34}{'marker s':>9}{'least':>7}{'most':>7}{'waiting s':>10}"
        f"{'MiB':>8}{'requests':>9}{'processor s':>12}"
    )
    lines = [
        f"{row.name:<34}{row.seconds:>9.1f}{row.least:>7.1f}{row.most:>7.1f}{row.waiting:>10.2f}"
        f"{row.mib:>8.1f}{row.requests:>9.0f}{row.processor:>12.1f}"
        for row in sorted(rows(runs), key=lambda row: row.seconds)
    ]
    return "\n".join([head, *lines])
