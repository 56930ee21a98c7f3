"""The results: a table for each work when it is done, and JSON of everything."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from .measure import Measurement
from .servers import BEFORE, Server
from .works import Work


@dataclass(frozen=True)
class Row:
    """The results of a server: medians, and the range of the figure."""

    server: str
    value: float
    least: float
    most: float
    ratio: float
    """Ratio of the median to that of the first server of the work."""
    median_us: float
    p99_us: float
    cpu_us: float
    switches: float
    peak_mib: float


class Report:
    """Stores each measurement."""

    def __init__(self, machine: str, rounds: int, runtime: int) -> None:
        self.machine = machine
        self.rounds = rounds
        self.runtime = runtime
        self.works: dict[str, Work] = {}
        self._runs: dict[str, dict[str, list[Measurement]]] = {}

    def add(self, work: Work, server: Server, measured: Measurement) -> None:
        self.works[work.name] = work
        self._runs.setdefault(work.name, {}).setdefault(server.name, []).append(measured)

    def rows(self, work: Work) -> list[Row]:
        """Results in the order of the work's servers."""
        runs = self._runs.get(work.name, {})
        names = [name for server in work.servers for name in (server, f"{server}{BEFORE}") if name in runs]
        values = {name: [run.value(work) for run in runs[name]] for name in names}
        medians = {name: statistics.median(values[name]) for name in names}

        def median(name: str, field: Callable[[Measurement], float]) -> float:
            return statistics.median(field(run) for run in runs[name])

        return [
            Row(
                name,
                medians[name],
                min(values[name]),
                max(values[name]),
                medians[name] / medians[names[0]],
                median(name, lambda run: run.median_us),
                median(name, lambda run: run.p99_us),
                median(name, lambda run: run.cpu_us),
                median(name, lambda run: run.switches),
                median(name, lambda run: run.peak_mib),
            )
            for name in names
        ]

    def show(self, work: Work) -> None:
        rows = self.rows(work)
        if not rows:
            return
        heads = (
            f"{'least':>8} {'most':>8} {'ratio':>6} {'lat us':>8} {'p99 us':>8} {'CPU us':>7} {'switch':>6}"
        )
        print(f"\n{work.title}\n  {work.name:<18} {work.value:>8} {heads} {'MiB':>6}")
        for row in rows:
            print(
                f"  {row.server:<18} {row.value:>8.4g} {row.least:>8.4g} {row.most:>8.4g} {row.ratio:>6.2f} "
                f"{row.median_us:>8.4g} {row.p99_us:>8.4g} {row.cpu_us:>7.3g} {row.switches:>6.2f} "
                f"{row.peak_mib:>6.0f}",
                flush=True,
            )

    def save(self, path: Path) -> None:
        works = [
            {
                "name": work.name,
                "title": work.title,
                "unit": work.value,
                "medians": [asdict(row) for row in self.rows(work)],
                "runs": {name: [asdict(run) for run in runs] for name, runs in self._runs[work.name].items()},
            }
            for work in self.works.values()
        ]
        everything = {
            "machine": self.machine,
            "rounds": self.rounds,
            "runtime": self.runtime,
            "works": works,
        }
        path.write_text(json.dumps(everything, indent=1) + "\n")
