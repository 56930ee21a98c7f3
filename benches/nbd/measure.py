"""One run: a disk, a server, fio, and the resources that the server used."""

import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disks import Disks, warm
from .servers import Server
from .works import Work

STARTS = 20.0
STOPS = 60.0


@dataclass(frozen=True)
class Measurement:
    """The results of one run."""

    seconds: float
    requests: int
    iops: float
    mib_s: float
    median_us: float
    p99_us: float
    cpu_us: float
    """CPU time of all threads of the server, per request."""
    switches: float
    """Context switches of all threads of the server, per request; those of its start and its end included."""
    peak_mib: float
    """Peak resident memory of the server."""

    def value(self, work: Work) -> float:
        """The value that the work measures."""
        return {"kIOPS": self.iops / 1000, "MiB/s": self.mib_s, "MiB peak": self.peak_mib}[work.value]


def measure(work: Work, server: Server, disks: Disks, runtime: int) -> Measurement:
    disk = disks.make(server.format, work.disk)
    at_first = context_switches()
    with serving(server, disk) as (process, path):
        if work.disk == "full" and server.format != "none":
            # A server may drop part of the page cache when it opens an image, to see what the disk has.
            warm(Path(disk))
        before = cpu_seconds(process.pid)
        (job,) = fio(work, path, disks.size_of(work.disk), runtime)["jobs"]
        cpu = cpu_seconds(process.pid) - before
        switches_of_fio = context_switches() - at_first
        peak = peak_mib(process.pid)
        if work.disk != "full":
            # The disk is thrown away. What is not written yet would cost time, and disturb the next server.
            process.kill()
    switches = context_switches() - at_first - switches_of_fio
    if work.disk != "full" and server.format != "none":
        Path(disk).unlink()
    sides = [job["read"], job["write"]]
    busiest = max(sides, key=lambda side: int(side["total_ios"]))
    requests = sum(int(side["total_ios"]) for side in sides)
    percentiles = busiest["clat_ns"]["percentile"]
    return Measurement(
        seconds=max(side["runtime"] for side in sides) / 1000,
        requests=requests,
        iops=sum(side["iops"] for side in sides),
        mib_s=sum(side["bw_bytes"] for side in sides) / (1 << 20),
        median_us=percentiles["50.000000"] / 1000,
        p99_us=percentiles["99.000000"] / 1000,
        cpu_us=cpu / requests * 1e6,
        switches=switches / requests,
        peak_mib=peak,
    )


def fio(work: Work, path: str, size: int, runtime: int) -> dict[str, Any]:
    """Runs the load, and returns fio's report."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                "fio",
                f"--name={work.name}",
                "--ioengine=nbd",
                f"--uri=nbd+unix:///?socket={path}",
                f"--size={size}",
                f"--runtime={runtime}",
                f"--numjobs={work.clients}",
                "--group_reporting",
                "--output-format=json",
                *work.fio,
            ],
            cwd=folder,  # fio leaves files there
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"fio failed: {done.stderr}\n{done.stdout[-2000:]}")
    account: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return account


@contextmanager
def serving(server: Server, disk: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Runs the server until the end of the block; yields the process and its socket."""
    with tempfile.TemporaryDirectory(prefix="nbd-") as folder:
        path = os.path.join(folder, "socket")
        with (
            open(os.path.join(folder, "said"), "w+b") as said,
            subprocess.Popen(
                server.command(disk, path), stdout=said, stderr=said, start_new_session=True
            ) as process,
        ):
            try:
                wait_for(process, path, Path(said.name))
                yield process, path
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOPS)
                except subprocess.TimeoutExpired:
                    process.kill()


def wait_for(process: subprocess.Popen[bytes], path: str, said: Path) -> None:
    """Waits until the server accepts connections."""
    deadline = time.monotonic() + STARTS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
                return
            except OSError:
                time.sleep(0.01)
    raise SystemExit(f"{process.args!r} does not serve: {said.read_text(errors='replace')}")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, including those that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def context_switches() -> int:
    """Voluntary and other ones, of all threads of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_nvcsw + used.ru_nivcsw


def peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"the kernel tells no peak memory of process {pid}")
