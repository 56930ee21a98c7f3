"""Servers of others (qemu-nbd, nbdkit) that have a raw disk as an export."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from support import TOOLS_ENV


class NbdServer:
    """A server on a Unix socket, with one export: `disk`."""

    def __init__(self, program: str, disk: Path) -> None:
        # The path of a socket has at most 107 bytes. The folders of tests are longer.
        self.folder = Path(tempfile.mkdtemp(prefix="fvd-nbd-"))
        self.socket = self.folder / "socket"
        self.program = program
        self.disk = disk
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nbd+unix:///disk?socket={self.socket}"

    @property
    def trust(self) -> list[str]:
        return [f"nbd+unix:///?socket={self.socket}"]

    def command(self) -> list[str | Path]:
        if self.program == "qemu-nbd":
            options = ["-t", "-r", "-e", "8", "-f", "raw", "-x", "disk", "-k"]
            return ["qemu-nbd", *options, self.socket, self.disk]
        log = f"logfile={self.folder / 'log'}"
        return ["nbdkit", "-f", "-r", "-U", self.socket, "--filter=log", "file", self.disk, log]

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, env=TOOLS_ENV)
        while not self._listens():
            assert self._process.poll() is None, f"{self.program} has ended"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        """Kills the server, as a machine that is switched off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.socket.unlink(missing_ok=True)

    def bytes_read(self) -> int:
        """How much clients have read so far (nbdkit)."""
        lines = (self.folder / "log").read_text().splitlines()
        reads = [
            line.split("count=")[1].split()[0] for line in lines if " Read " in line and "count=" in line
        ]
        return sum(int(count, 16) for count in reads)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)


@contextmanager
def exporting(program: str, disk: Path) -> Iterator[NbdServer]:
    """Runs a server (`scripts/install-tools.sh` installs it) until the end of the block."""
    with NbdServer(program, disk) as server:
        yield server
