"""A fleet of machines that boot from one template, simulated, and how far the model is from real processes.

    python -m benches.fleet calibrate [--json FILE]      1 to 16 processes that read over a link, and it
    python -m benches.fleet simulate [--lasting SECONDS] [--json FILE] [--plot NAME]

Needs cargo, and what scripts/install-tools.sh installs.
"""

import argparse
import json
import tempfile
from pathlib import Path

from .calibrate import COLUMNS, calibrate
from .model import TRACE, simulate
from .plot import draw


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.fleet", description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["calibrate", "simulate"])
    parser.add_argument(
        "--lasting", type=float, default=10, metavar="SECONDS", help="a boot without waits for the disk"
    )
    parser.add_argument("--processes", default="1,2,4,8,16", metavar="N,...", help="calibrate: how many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--plot", type=Path, metavar="NAME", help="simulate: also draw NAME.png and NAME.svg")
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        outcomes = simulate(TRACE, lasting=arguments.lasting)
        figures: object = outcomes
        for one in outcomes:
            mib = one["bytes"] / one["machines"] / (1 << 20)
            print(
                f"{one['name']:<46}{one['median']:>8.1f}{one['p99']:>8.1f}"
                f"{mib:>9.1f} MiB{one['requests']:>9}{one['refused']:>9}"
            )
        if arguments.plot:
            draw(outcomes, arguments.lasting, arguments.plot)
    else:
        print(COLUMNS)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            numbers = [int(word) for word in arguments.processes.split(",")]
            rows = list(calibrate(Path(folder), numbers, arguments.lasting))
        figures = [row.plain() for row in rows]
        errors = [abs(row.error) for row in rows]
        print(f"error of the time: {sum(errors) / len(errors):.0%} on average, {max(errors):.0%} at most")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
