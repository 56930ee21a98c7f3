"""Boots of a Debian machine whose base is on a web server that is far away.

    sudo apt-get install debootstrap qemu-system-x86 qemu-block-extra
    make bench-boots                              as root; the first run makes a Debian of 2 GiB in --folder
    make bench-boots ARGS='--rate 100 --only "fvd;local" --rounds 5 --json runs.json'

nginx is reached through a proxy that adds latency and limits the rate. Ways take turns in random order. The
machine is emulated: look at the bytes, the requests, and the seconds in which it waits for its disk; most of
the other seconds are the emulation of the processor. This is not a test: the exit status is 0 whatever the
result.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..remote.far import Link, far
from .debian import PROGRAMS, Root, make_root
from .plot import draw
from .record import record_profile, record_trace
from .report import table
from .runs import Run, boots
from .ways import WAYS, Way

TRACES = Path(__file__).parent / "traces"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.boot", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trip", type=float, default=20, metavar="MS", help="a round trip to the store")
    parser.add_argument("--rate", type=float, default=1000, metavar="MBIT", help="of the link, a second")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--only", metavar="NAME;...", help="; ".join(way.name for way in WAYS))
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/fvd-boot"), help="of the Debian disk")
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="of the Debian disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement there")
    parser.add_argument("--plot", type=Path, metavar="NAME", help="also draw NAME.png and NAME.svg")
    parser.add_argument("--record", action="store_true", help="record the trace of a boot, and stop")
    arguments = parser.parse_args()
    for program in (*PROGRAMS, "nbdkit", "curl"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    root = make_root(arguments.folder, arguments.size)
    if arguments.record:
        TRACES.mkdir(exist_ok=True)
        return record_trace(root, arguments.folder, TRACES / "debian.txt")
    profile = arguments.folder / "debian.profile"
    if not profile.exists():
        record_profile(root, arguments.folder, profile)
    names = arguments.only.split(";") if arguments.only else [way.name for way in WAYS]
    ways = [way for way in WAYS if way.name in names]
    link = Link(delay_ms=arguments.trip / 2, rate=arguments.rate * 1e6 / 8)
    title = f"{arguments.trip:g} ms, {arguments.rate:g} Mbit/s, {arguments.rounds} rounds, medians"
    runs = []
    for run in measure(ways, link, root, profile, arguments.folder, arguments.rounds):
        runs.append(run)
        if arguments.json:
            # Each time: it takes long, and may be interrupted.
            plain = {"title": title, "runs": [asdict(run) for run in runs]}
            arguments.json.write_text(json.dumps(plain, indent=1))
    print(title, table(runs), sep="\n")
    if arguments.plot:
        draw(runs, title, arguments.plot)
    return None


def measure(
    ways: list[Way], link: Link, root: Root, profile: Path, folder: Path, rounds: int
) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        www = Path(temporary) / "www"
        www.mkdir()
        os.link(root.disk, www / root.disk.name)
        with far(Path(temporary), link) as store:
            for _ in range(rounds):
                for way in random.sample(ways, len(ways)):
                    for run in boots(way, store, root, profile, folder):
                        print(f"  {run}", flush=True)
                        yield run


if __name__ == "__main__":
    main()
