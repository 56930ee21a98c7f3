"""Boots of a Debian machine whose base is far away: how long it waits for its disk, and what it fetches.

    sudo apt-get install debootstrap qemu-system-x86 nbdkit libnbd-bin fuse3
    make bench-boot                               as root; the first run makes a Debian of 2 GiB in --folder
    make bench-boot ARGS='--delay 30 --only fvd,qcow2 --rounds 5'

A machine boots twice from each overlay: cold, and again. A filter delays each read of the base. The time in
which the machine waits for its disk is a better measure than the time to the marker, most of which is the
emulation of the processor. This is not a test: the exit status is 0 whatever the result.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...boot.debian import PROGRAMS, Boot, Root, boot, make_root
from .bases import FarBase, far_base
from .ways import WAYS, Way

MIB = 1 << 20
COLUMNS = (
    f"{'way':<12}{'boot':<7}{'marker s':>9}{'waiting s':>10}{'least':>7}{'most':>7}"
    f"{'base MiB':>9}{'requests':>9}{'overlay MiB':>12}"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.nbd.boot", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--delay", type=int, default=30, metavar="MS", help="of one read of the base")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--only", metavar="NAME,...", help=", ".join(way.name for way in WAYS))
    parser.add_argument(
        "--folder", type=Path, default=Path("/var/tmp/fvd-boot"), help="of the Debian disk and the overlays"
    )
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="of the Debian disk")
    parser.add_argument("--json", metavar="FILE", help="also write every measurement there")
    arguments = parser.parse_args()
    for program in (*PROGRAMS, "nbdkit", "nbdfuse"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing")
    names = arguments.only.split(",") if arguments.only else [way.name for way in WAYS]
    ways = [way for way in WAYS if way.name in names]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    root = make_root(arguments.folder, arguments.size)
    runs: dict[str, list[list[tuple[Boot, int, int, float]]]] = {way.name: [] for way in ways}
    with far_base(root.disk, arguments.delay) as base:
        for number in range(arguments.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                runs[way.name].append(two_boots(way, base, root, arguments.folder))
    print(f"base {arguments.delay} ms away, {arguments.rounds} rounds, medians\n{COLUMNS}")
    for way in ways:
        for index, title in enumerate(("cold", "again")):
            print(line(way.name, title, [run[index] for run in runs[way.name]]))
    if arguments.json:
        plain = {
            name: [
                [{**asdict(one[0]), "requests": one[1], "bytes": one[2], "overlay": one[3]} for one in run]
                for run in each
            ]
            for name, each in runs.items()
        }
        Path(arguments.json).write_text(json.dumps(plain, indent=1))


def two_boots(way: Way, base: FarBase, root: Root, folder: Path) -> list[tuple[Boot, int, int, float]]:
    """Each boot, with the requests and bytes that the base has seen, and the MiB of the overlay."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary)
        results = []
        for _ in range(2):
            requests, count = base.traffic()
            with way.drive(place, base, root) as drive:
                one = boot(root, drive)
            requests_after, count_after = base.traffic()
            size = sum(file.stat().st_blocks * 512 for file in place.iterdir()) / MIB
            results.append((one, requests_after - requests, count_after - count, size))
        return results


def line(name: str, title: str, runs: Sequence[tuple[Boot, int, int, float]]) -> str:
    waits = [run[0].waiting for run in runs]
    middle = statistics.median
    return (
        f"{name:<12}{title:<7}{middle(run[0].seconds for run in runs):>9.1f}{middle(waits):>10.2f}"
        f"{min(waits):>7.2f}{max(waits):>7.2f}{middle(run[2] for run in runs) / MIB:>9.1f}"
        f"{middle(run[1] for run in runs):>9.0f}{middle(run[3] for run in runs):>12.1f}"
    )


if __name__ == "__main__":
    main()
