"""The model compared with real processes that play the same trace over a link."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from ..boot.trace import read
from ..remote.far import Link, Server, far
from .model import TRACE, simulate

TRIP_MS = 20
RATE = 125e6
LIMIT = 400
"""Requests a second, where the store has a limit."""
COLUMNS = (
    f"{'way':<14}{'store':<14}{'processes':>10}{'real s':>9}{'model s':>9}{'error':>7}"
    f"{'real MiB':>10}{'model':>8}{'real requests':>14}{'model':>7}"
)


@dataclass(frozen=True)
class Row:
    """Some processes, and the model of them. Times are medians, everything else is for a process."""

    way: str
    limit: int
    processes: int
    real: float
    model: float
    real_mib: float
    model_mib: float
    real_requests: float
    model_requests: float

    @property
    def error(self) -> float:
        return self.model / self.real - 1

    def plain(self) -> dict[str, object]:
        return {**asdict(self), "error": self.error}

    def __str__(self) -> str:
        store = f"{self.limit} a second" if self.limit else "no limit"
        return (
            f"{self.way:<14}{store:<14}{self.processes:>10}{self.real:>9.2f}{self.model:>9.2f}"
            f"{self.error:>7.0%}{self.real_mib:>10.1f}{self.model_mib:>8.1f}"
            f"{self.real_requests:>14.0f}{self.model_requests:>7.0f}"
        )


def calibrate(folder: Path, numbers: Sequence[int], lasting: float) -> Iterator[Row]:
    make_disk(folder / "www" / "disk.raw")
    for limit in (0, LIMIT):
        with far(folder, Link(delay_ms=TRIP_MS / 2, rate=RATE), limit=limit) as server:
            for way in ("demand", "profile"):
                for processes in numbers:
                    row = compare(server, folder, way, limit, processes, lasting)
                    print(row, flush=True)
                    yield row


def make_disk(path: Path) -> None:
    """A sparse disk: what is in it does not matter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(max(one.offset + one.length for one in read(TRACE)) + (1 << 20))


def compare(server: Server, folder: Path, way: str, limit: int, processes: int, lasting: float) -> Row:
    overlays = [overlay(server, folder / f"{number}.fvd", way) for number in range(processes)]
    requests, size = server.answers()
    times = play(overlays, server.url(""), lasting)
    requests_after, size_after = server.answers()
    (model,) = simulate(
        TRACE,
        how=way,
        hosts=processes,
        trip_ms=TRIP_MS,
        # All processes share one link.
        host_rate=0,
        store_rate=RATE,
        requests=limit,
        first_byte_ms=1,
        spread=0.3,
        lasting=lasting,
        base=(folder / "www" / "disk.raw").stat().st_size,
    )
    return Row(
        way=way,
        limit=limit,
        processes=processes,
        real=statistics.median(times),
        model=model["median"],
        real_mib=(size_after - size) / processes / (1 << 20),
        model_mib=model["bytes"] / processes / (1 << 20),
        real_requests=(requests_after - requests) / processes,
        model_requests=model["requests"] / processes,
    )


def overlay(server: Server, path: Path, way: str) -> Path:
    path.unlink(missing_ok=True)
    options: ImageOptions = {"copy_on_read": True}
    if way == "profile":
        options |= {"profile_directed_prefetch_start_delay": 0, "prefetch_profile_size": "1M"}
    url = server.url("disk.raw")
    fvd.create(path, backing_file=url, backing_format="raw", options=options, trust=[server.url("")])
    if way == "profile":
        profile = path.with_suffix(".profile")
        entries = [[one.offset, one.length] for one in read(TRACE)]
        size = fvd.info(path)["virtual-size"]
        plain = {"fvd-profile": 1, "disk-size": size, "unit": 4096, "entries": entries}
        profile.write_text(json.dumps(plain))
        fvd.import_profile(path, profile)
    return path


def play(overlays: Sequence[Path], trust: str, lasting: float) -> list[float]:
    """The seconds of each process. All start together."""
    command = [sys.executable, "-m", "benches.boot.player", os.fspath(TRACE), str(lasting)]
    players = [
        subprocess.Popen([*command, path, trust], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for path in overlays
    ]
    try:
        for player in players:
            assert player.stdout is not None
            player.stdout.readline()
        for player in players:
            assert player.stdin is not None
            player.stdin.write("\n")
            player.stdin.flush()
        return [float(player.communicate()[0]) for player in players]
    finally:
        for player in players:
            player.kill()
            player.wait()
