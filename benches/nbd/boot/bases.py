"""A base that is far away: each read takes a round trip."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..measure import wait_for
from ..stack import fuse_file


@dataclass(frozen=True)
class FarBase:
    """A raw disk behind a delay."""

    file: Path
    """The disk as a file (FUSE)."""
    socket: str
    """The NBD server itself."""
    log: Path

    def traffic(self) -> tuple[int, int]:
        """Requests and bytes that were read so far."""
        sizes = [
            int(size, 0) for size in re.findall(r" Read id=.* count=(0x[0-9a-f]+)", self.log.read_text())
        ]
        return len(sizes), sum(sizes)


@contextmanager
def far_base(disk: Path, delay_ms: int) -> Iterator[FarBase]:
    """The base behind nbdkit's delay filter. Requests that wait at once do not add up."""
    with ExitStack() as layers:
        folder = Path(layers.enter_context(tempfile.TemporaryDirectory(prefix="boot-base-")))
        log, path = folder / "log", os.fspath(folder / "socket")
        command = ["nbdkit", "-f", "-r", "-U", path, "-t", "64", "--filter=log", "--filter=delay", "file"]
        command += [os.fspath(disk), f"rdelay={delay_ms}ms", f"logfile={log}"]
        process = layers.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        layers.callback(process.terminate)
        wait_for(process, path, log)
        yield FarBase(layers.enter_context(fuse_file(folder / "fuse", path)), path, log)
