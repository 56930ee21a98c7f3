"""`fvd serve` compared with qemu-nbd and nbdkit: the same load of fio over a Unix socket for each.

    python -m benches.nbd                                     everything
    python -m benches.nbd --only randread32 --servers fvd,nbdkit --rounds 5 --runtime 5
    python -m benches.nbd --list                              the available works and servers

Each round starts every server anew, one after the other, each time in another order, so that
disturbances of the machine affect all. A figure is the median of the rounds; a ratio is that of two medians.
CPU time is that of all threads of the server, per request; memory is its peak. Images that are written to are
created anew for each run; those that are only read are read once before. No process is pinned, and no cache
is dropped. This is not a test: the exit status is 0 whatever the result, unless something could not be
measured.
"""

import argparse
import os
import platform
import random
import subprocess
import tempfile
from pathlib import Path

import fvd
from fvd import _fvd

from .busy import Busy
from .disks import Disks
from .measure import measure
from .report import Report
from .servers import SERVERS, Server, available, before
from .works import WORKS, Work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.nbd", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", metavar="WORK,...", help=f"{', '.join(WORKS)}; all by default")
    parser.add_argument("--servers", metavar="NAME,...", help="a name, or how names begin: fvd, qemu-qcow2")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--runtime", type=int, default=5, metavar="SECONDS", help="of one run, at most")
    parser.add_argument(
        "--busy",
        metavar="N[:NICE]",
        type=Busy.parse,
        default=Busy(),
        help="beside N processes that burn a core, at nice 10 by default",
    )
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of a disk with data")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "results", metavar="DIR")
    parser.add_argument("--before", metavar="FVD", help="also the servers of another version: its command")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement there")
    parser.add_argument("--plot", type=Path, metavar="NAME", help="also draw NAME.png and NAME.svg")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    given = parser.parse_args()
    if given.list:
        show_list()
        return
    works = chosen_works(parser, given.only)
    servers = chosen_servers(parser, given.servers)
    if _fvd.DEBUG_BUILD:
        parser.error("this is a debug build of fvd; `make build` makes one worth measuring")
    given.folder.mkdir(parents=True, exist_ok=True)
    report = Report(f"{machine()}, {given.busy}", given.rounds, given.runtime)
    print(report.machine)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, given.busy.running():
        disks = Disks(Path(folder), given.size)
        for work in works:
            chosen = [server for server in servers if server.name in work.servers]
            run(work, with_before(chosen, given.before), disks, report)
    if given.json:
        report.save(given.json)
    if given.plot:
        from .plot import draw

        draw(report, given.plot)


def run(work: Work, servers: list[Server], disks: Disks, report: Report) -> None:
    """Runs all rounds of a work, with a different order of servers each time."""
    for number in range(report.rounds):
        # At random, so that a server does not always come after the same one.
        for server in random.Random(number).sample(servers, len(servers)):
            report.add(work, server, measure(work, server, disks, report.runtime))
    report.show(work)


def chosen_works(parser: argparse.ArgumentParser, only: str | None) -> list[Work]:
    names = only.split(",") if only else list(WORKS)
    if unknown := set(names) - set(WORKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    return [WORKS[name] for name in names]


def chosen_servers(parser: argparse.ArgumentParser, wanted: str | None) -> list[Server]:
    names = wanted.split(",") if wanted else []
    for name in names:
        if not any(begins(server.name, name) for server in SERVERS):
            parser.error(f"unknown server: {name}; there are {', '.join(server.name for server in SERVERS)}")
    servers = [server for server in SERVERS if not names or any(begins(server.name, name) for name in names)]
    for server in servers:
        if why := available(server):
            print(f"without {server.name}: {why}")
    return [server for server in servers if not available(server)]


def with_before(servers: list[Server], script: str | None) -> list[Server]:
    """Each server of fvd is followed by its twin of the other version."""
    if script is None:
        return servers
    pairs = (
        [server, before(server, script)] if server.name.startswith("fvd") else [server] for server in servers
    )
    return [server for pair in pairs for server in pair]


def begins(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}-")


def machine() -> str:
    """One line about the machine and the versions."""

    def version(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]

    qemu = version("qemu-nbd", "--version").split(" (")[0]
    return (
        f"fvd {fvd.__version__}, {qemu}, {version('nbdkit', '--version')}, {version('fio', '--version')}, "
        f"Linux {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )


def show_list() -> None:
    for name, work in WORKS.items():
        print(f"{name:<12} {work.title}\n{'':<12} {', '.join(work.servers)}")
    print()
    for server in SERVERS:
        print(f"{server.name:<18} {server.about}")


if __name__ == "__main__":
    main()
