"""PostMark on an overlay that is served over NBD: fvd compared with qcow2, and both with a raw disk.

    sudo apt-get install postmark libnbd-bin      the load, and nbdfuse
    make bench-postmark                           as root, for loop devices and mounts
    make bench-postmark ARGS='--rounds 7 --cache none --only fvd,qemu-qcow2'

PostMark creates small files, then reads, appends to, creates and deletes files at random, then deletes them.
It runs on ext4, on a loop device, on a file of nbdfuse, on an NBD server: the server of fvd, or qemu-nbd. The
file system is in a raw base, full of random data; both sides write into an overlay over it. A round has each
server once, in alternating order. The time is that of PostMark and of writing back what it left in memory. A
figure is the median of the rounds. This is not a test: the exit status is 0 whatever the result.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import fvd
from fvd import _fvd

from .disks import fill, warm
from .measure import cpu_seconds
from .servers import Server, fvd_serve, qemu_nbd
from .stack import DIRTY_BYTES, PROGRAMS, mounted, run

CACHES = ("writeback", "none")
MIB = 1 << 20


@dataclass(frozen=True)
class Load:
    """Parameters of PostMark: small files, as in the measurements of 2011."""

    files: int
    transactions: int
    least_bytes: int = 500
    most_bytes: int = 10_240
    folders: int = 100
    seed: int = 42


@dataclass(frozen=True)
class Measurement:
    """The results of one run."""

    seconds: float
    """PostMark, and writing back what it left in memory."""
    transactions_s: float
    """Transactions per second, as PostMark reports them."""
    server_cpu_s: float
    image_mib: float
    """Space that the overlay has allocated in the end."""


def servers(cache: str) -> list[Server]:
    mode = f"--cache={cache}"
    ours = fvd_serve(mode)
    return [
        Server("fvd", "", ours, "an overlay with the default block size"),
        Server("fvd-64k", "block_size=64K", ours, "an overlay with blocks of 64 KiB"),
        Server("qemu-qcow2", "qcow2", qemu_nbd("-f", "qcow2", mode), "a qcow2 overlay"),
        Server("fvd-raw", "raw", fvd_serve("-f", "raw", mode), "a copy of the base, served by fvd"),
        Server("qemu-raw", "raw", qemu_nbd("-f", "raw", mode), "the same, served by qemu-nbd"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benches.nbd.postmark", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--files", type=int, default=20_000, metavar="N")
    parser.add_argument("--transactions", type=int, default=40_000, metavar="N")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the disk")
    parser.add_argument("--cache", choices=CACHES, help="both modes by default")
    parser.add_argument("--only", metavar="NAME,...", help=", ".join(s.name for s in servers("none")))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "results", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement there")
    given = parser.parse_args()
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        parser.error(f"missing: {', '.join(missing)} (apt-get install postmark libnbd-bin qemu-utils fuse3)")
    if os.geteuid():
        parser.error("loop devices and mounts need root")
    if _fvd.DEBUG_BUILD:
        parser.error("this is a debug build of fvd; `make build` makes one worth measuring")
    # As after Ctrl-C, everything is unmounted and detached.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given.folder.mkdir(parents=True, exist_ok=True)
    load = Load(given.files, given.transactions)
    print(f"fvd {fvd.__version__}, {load}, {DIRTY_BYTES // MIB} MiB dirty, load {os.getloadavg()[0]:.1f}")
    runs: dict[str, dict[str, list[Measurement]]] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        base = Path(folder) / "base.raw"
        make_base(base, given.size * MIB)
        for cache in [given.cache] if given.cache else CACHES:
            chosen = [s for s in servers(cache) if not given.only or s.name in given.only.split(",")]
            runs[cache] = rounds(chosen, base, load, given.rounds)
            show(cache, runs[cache])
            if given.json:
                save(given.json, load, runs)


def rounds(chosen: list[Server], base: Path, load: Load, count: int) -> dict[str, list[Measurement]]:
    """Runs all rounds, each with a different server first."""
    measured: dict[str, list[Measurement]] = {server.name: [] for server in chosen}
    for number in range(count):
        first = number % max(len(chosen), 1)
        for server in chosen[first:] + chosen[:first]:
            measured[server.name].append(measure(server, base, load))
    return measured


def measure(server: Server, base: Path, load: Load) -> Measurement:
    disk = make_disk(server.format, base)
    warm(base)
    with mounted(server, os.fspath(disk)) as (pid, folder):
        cpu, started = cpu_seconds(pid), time.monotonic()
        said = run("postmark", stdin=commands(load, folder))
        run("sync", "--file-system", folder)
        elapsed, cpu = time.monotonic() - started, cpu_seconds(pid) - cpu
    rate = re.search(r"([\d.]+) per second", said[said.index("transactions") :])
    if rate is None:
        raise SystemExit(f"PostMark says no rate: {said}")
    taken = disk.stat().st_blocks * 512 / MIB
    disk.unlink()
    return Measurement(elapsed, float(rate[1]), cpu, taken)


def commands(load: Load, folder: Path) -> str:
    return (
        f"set location {folder}\nset number {load.files}\nset transactions {load.transactions}\n"
        f"set size {load.least_bytes} {load.most_bytes}\nset subdirectories {load.folders}\n"
        f"set seed {load.seed}\nrun\nquit\n"
    )


def make_base(path: Path, size: int) -> None:
    """A file system whose free space has old data: reading it costs something."""
    fill(path, size)
    now = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
    run("mkfs.ext4", "-q", "-F", "-E", now, path)


def make_disk(format: str, base: Path) -> Path:
    disk = base.with_name("disk")
    if format == "raw":
        run("cp", "--sparse=never", base, disk)
        run("sync", disk)
    elif format == "qcow2":
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", disk)
    else:
        chosen: dict[str, str] = dict([format.split("=")]) if format else {}
        fvd.create(disk, backing_file=base.name, backing_format="raw", options=chosen)  # type: ignore[arg-type]
    return disk


def show(cache: str, measured: dict[str, list[Measurement]]) -> None:
    print(f"\n--cache={cache}, load {os.getloadavg()[0]:.1f}")
    heads = f"{'seconds':>8} {'least':>7} {'most':>7} {'ratio':>6} {'trans/s':>8} {'CPU s':>6} {'MiB':>6}"
    print(f"  {'':<12} {heads}")
    medians = {name: statistics.median(run.seconds for run in runs) for name, runs in measured.items()}
    for name, runs in measured.items():
        took = [run.seconds for run in runs]
        print(
            f"  {name:<12} {medians[name]:>8.2f} {min(took):>7.2f} {max(took):>7.2f} "
            f"{medians[name] / next(iter(medians.values())):>6.2f} "
            f"{statistics.median(run.transactions_s for run in runs):>8.0f} "
            f"{statistics.median(run.server_cpu_s for run in runs):>6.2f} "
            f"{statistics.median(run.image_mib for run in runs):>6.0f}",
            flush=True,
        )


def save(path: Path, load: Load, runs: dict[str, dict[str, list[Measurement]]]) -> None:
    everything = {
        "load": asdict(load),
        "runs": {
            cache: {name: [asdict(each) for each in measured] for name, measured in sides.items()}
            for cache, sides in runs.items()
        },
    }
    path.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
