"""Bases on a web server that is far away: nginx, and a link with latency and a rate.

    python -m benches.remote [WHAT ...]     first-read sequential stalls cached prefetch

Both sides of a row take turns. Needs what scripts/install-tools.sh installs.
"""

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import fvd

from .far import Link, Server, far

KIB, MIB = 1 << 10, 1 << 20
SIZE = 256 * MIB
UNIT = 256 * KIB
NEAR = Link(delay_ms=10, rate=125e6)
FAST = [Link(delay_ms=10, rate=rate) for rate in (200e6, 400e6)]


def overlay(server: Server, name: Path, cache: Path | None = None, **options: object) -> fvd.Image:
    """A new overlay on the disk of the server, open for writing. `cache`: the folder of a host cache."""
    name.unlink(missing_ok=True)
    trust = [server.url("")]
    fvd.create(name, backing_file=server.url("disk.raw"), backing_format="raw", options=options, trust=trust)  # type: ignore[arg-type]
    return fvd.open(name, "r+", trust=trust, cache_dir=cache)


def make_disk(folder: Path, size: int = SIZE) -> None:
    (folder / "www").mkdir(parents=True, exist_ok=True)
    with (folder / "www" / "disk.raw").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


class NbdkitCurl:
    """nbdkit's curl plugin, over a Unix socket."""

    def __init__(self, server: Server, folder: Path, *filters: str) -> None:
        self.socket = folder / "nbdkit.sock"
        self.socket.unlink(missing_ok=True)
        words = [f"--filter={name}" for name in filters]
        command = ["nbdkit", "-f", "-U", str(self.socket), *words, "curl", server.url("disk.raw")]
        self.process = subprocess.Popen(command)
        while not self.socket.exists():
            time.sleep(0.002)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def first_read(folder: Path, runs: int) -> None:
    """Create, open, first 4 KiB."""
    with far(folder, NEAR) as server:
        trip = 2 * NEAR.delay_ms

        def ours() -> None:
            with overlay(server, folder / "vm.fvd") as image:
                image.pread(4 * KIB, 0)

        def nbdkit() -> None:
            peer = NbdkitCurl(server, folder)
            uri = f"nbd+unix:///?socket={peer.socket}"
            command = ["/usr/bin/python3", "-m", "nbd", "-u", uri, "-c", "h.pread(4096, 0)"]
            subprocess.run(command, check=True)
            peer.close()

        for name, action in (("fvd", ours), ("nbdkit curl (processes started)", nbdkit)):
            times, requests = [], []
            for _ in range(runs):
                before = server.answers()[0]
                times.append(seconds(action))
                time.sleep(0.1)
                requests.append(server.answers()[0] - before)
            took = statistics.median(times) * 1000
            print(f"{name:<34} {took:8.1f} ms, {took / trip:5.2f} round trips, {max(requests)} requests")


def sequential(folder: Path, runs: int) -> None:
    """A sequential read of 1 GiB; one connection gets 100 MB/s."""
    size = 1024 * MIB
    make_disk(folder, size)
    for link in FAST:
        with far(folder, link) as server:

            def ours(step: int) -> None:
                with overlay(server, folder / "vm.fvd", copy_on_read=False) as image:
                    for offset in range(0, size, step):
                        image.pread(step, offset)

            def convert() -> None:
                command: list[str | Path] = ["fvd", "convert", "-f", "raw", "-O", "raw"]
                command += [server.url("disk.raw"), folder / "copy.raw"]
                subprocess.run(command, check=True)

            def nbdkit() -> None:
                peer = NbdkitCurl(server, folder)
                subprocess.run(["nbdcopy", f"nbd+unix:///?socket={peer.socket}", "null:"], check=True)
                peer.close()

            def curl(count: int) -> None:
                part = size // count
                ranges = [f"{index * part}-{(index + 1) * part - 1}" for index in range(count)]
                command = ["curl", "-s", "-o", "/dev/null", server.url("disk.raw"), "-r"]
                running = [subprocess.Popen([*command, each]) for each in ranges]
                assert all(process.wait() == 0 for process in running)

            sides: dict[str, Callable[[], None]] = {
                "fvd, 1 MiB reads": partial(ours, MIB),
                "fvd, 4 MiB reads": partial(ours, 4 * MIB),
                "fvd convert": convert,
                "curl": partial(curl, 1),
                "eight curls, an eighth each": partial(curl, 8),
            }
            if runs == 1:
                # It takes more than a minute.
                sides["nbdkit curl, nbdcopy"] = nbdkit
            for name, times in alternate(sides, runs).items():
                rate = size / statistics.median(times)
                print(f"{name:<34} {rate / 1e6:8.1f} of {link.rate / 1e6:.0f} MB/s, {rate / link.rate:5.2f}")


def stalls(folder: Path, runs: int) -> None:
    """One request in a hundred is held for 10 s: the reads of cold units, one at a time."""
    with far(folder, Link(10, 125e6, stall="0.01:10")) as server:
        taken = []
        for number in range(runs):
            with overlay(server, folder / "vm.fvd", copy_on_read=False) as image:
                units = list(range(SIZE // (256 * KIB)))
                random.Random(number).shuffle(units)
                for unit in units[:200]:
                    taken.append(seconds(lambda unit=unit: image.pread(4 * KIB, unit * 256 * KIB)))  # type: ignore[misc]
        taken.sort()
        print(
            f"{len(taken)} reads: median {taken[len(taken) // 2] * 1000:.1f} ms,"
            f" 99 % {taken[len(taken) * 99 // 100] * 1000:.0f} ms, longest {taken[-1] * 1000:.0f} ms"
        )


def cached(folder: Path, runs: int) -> None:
    """4 KiB from a unit in memory, from the host cache, and from a local base."""
    offsets = [random.Random(1).randrange(16 * MIB // (4 * KIB)) * 4 * KIB for _ in range(20_000)]
    with far(folder, NEAR) as server, ExitStack() as stack:
        local = folder / "local.fvd"
        local.unlink(missing_ok=True)
        fvd.create(local, backing_file="www/disk.raw", backing_format="raw")
        images = {
            "local base": stack.enter_context(fvd.open(local, "r+", trust=[folder])),
            "memory": stack.enter_context(overlay(server, folder / "memory.fvd", copy_on_read=False)),
            "host cache": stack.enter_context(
                overlay(server, folder / "cached.fvd", folder / "cache", copy_on_read=False)
            ),
        }

        def read(image: fvd.Image) -> None:
            for offset in offsets:
                image.pread(4 * KIB, offset)

        for image in images.values():
            read(image)
        times = alternate({name: partial(read, image) for name, image in images.items()}, runs)
        rates = {name: len(offsets) / statistics.median(some) for name, some in times.items()}
        for name, rate in rates.items():
            print(f"{name:<34} {rate / 1e3:8.1f} k/s, {rate / rates['local base']:5.2f} of the local base")


def prefetch(folder: Path, runs: int) -> None:
    """Prefetch: its rate, and what cold reads of a guest wait for meanwhile (32 a second, one at a time)."""
    links = {
        "100 Mbit/s, 30 ms": Link(15, 12.5e6),
        "1 Gbit/s, 30 ms": Link(15, 125e6),
        "1 Gbit/s, 1 ms": Link(0.5, 125e6),
    }
    cases = [(False, True), (True, True), (True, False)]
    for name, link in links.items():
        with far(folder, link) as server:
            for is_busy, runs_prefetch in cases:
                with overlay(server, folder / "vm.fvd") as image:
                    took, waits = both_at_once(image, is_busy, runs_prefetch)
                    rate = image.prefetch_status()["fetched"] / took / 1e6
                reads = "no reads"
                if waits:
                    late = waits[len(waits) * 95 // 100]
                    reads = f"reads {statistics.median(waits) * 1000:.0f} ms, 95 % {late * 1000:.0f} ms"
                print(f"{name:<18} prefetch {rate:6.1f} of {link.rate / 1e6:.1f} MB/s; {reads}")


def both_at_once(
    image: fvd.Image, is_busy: bool, runs_prefetch: bool, length: float = 8.0
) -> tuple[float, list[float]]:
    """How long it ran, and the sorted times of a guest's reads in the last quarter of the disk."""
    waits: list[float] = []
    if runs_prefetch:
        image.resume_prefetch()
    units = list(range(SIZE * 3 // 4 // UNIT, SIZE // UNIT))
    random.Random(7).shuffle(units)
    started = time.perf_counter()
    while (took := time.perf_counter() - started) < length:
        if runs_prefetch and image.prefetch_status()["state"] in ("finished", "failed"):
            break
        if is_busy and units:
            offset = units.pop() * UNIT
            before = time.perf_counter()
            image.pread(4 * KIB, offset)
            waits.append(time.perf_counter() - before)
        time.sleep(0.02)
    return took, sorted(waits)


def alternate(sides: dict[str, Callable[[], None]], runs: int) -> dict[str, list[float]]:
    """The times of all runs. The sides take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, action in sides.items():
            times[name].append(seconds(action))
    return times


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


BENCHES: dict[str, Callable[[Path, int], None]] = {
    "first-read": first_read,
    "sequential": sequential,
    "stalls": stalls,
    "cached": cached,
    "prefetch": prefetch,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", choices=[[], *BENCHES], help="all by default")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for name in arguments.what or BENCHES:
            make_disk(Path(folder))
            print(f"\n{BENCHES[name].__doc__}")
            BENCHES[name](Path(folder), arguments.runs)


if __name__ == "__main__":
    main()
