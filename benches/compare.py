"""Speed and size compared with qemu-img and plain system calls, with alternating runs of both sides.

    make bench                          everything
    make bench ARGS='convert python'    some of it: convert python create open start
                                        first-read copy-on-write

Each figure is the median of N runs (--runs) of each side. The runs alternate, so that disturbances of the
machine affect both sides. The output has both sides, their ratio, and the target. This is not a test: the
exit status is 0 whatever the result, unless something could not be measured. Installs nothing. Files go to
--folder (default: benches/results), which should be on the file system of interest.
"""

import argparse
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import fvd
from fvd import _fvd

from . import bench_convert, bench_images, bench_overlay, bench_python, bench_start
from .measure import Report

BENCHES = {
    "convert": bench_convert.bench,
    "python": bench_python.bench,
    "create": bench_images.bench_create,
    "open": bench_images.bench_open,
    "start": bench_start.bench,
    "first-read": bench_overlay.bench_first_read,
    "copy-on-write": bench_overlay.bench_copy_on_write,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and size compared with qemu-img and system calls.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(BENCHES)}; all by default")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    unknown = set(arguments.what) - set(BENCHES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if shutil.which("qemu-img") is None:
        parser.error("qemu-img is missing: scripts/install-tools.sh installs it")
    if _fvd.DEBUG_BUILD:
        parser.error("this is a debug build of fvd; `make build` makes one worth measuring")
    arguments.folder.mkdir(parents=True, exist_ok=True)

    version = subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True).stdout
    print(f"fvd {fvd.__version__}, {version.splitlines()[0]}, Python {platform.python_version()}")
    load = os.getloadavg()[0]
    print(f"Linux {platform.release()}, {os.cpu_count()} cores, load {load:.1f}; medians of {arguments.runs}")
    report = Report()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.what or BENCHES:
            BENCHES[name](report, Path(folder), arguments.runs)
    report.summary()
    if arguments.json:
        report.save(arguments.json)


if __name__ == "__main__":
    main()
