"""`fvd serve` as a process."""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support import FVD, TOOLS_ENV, run

ENDS = 60.0  # seconds; generous, because the machine may be busy


class Serving:
    """A process that has printed where it serves."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line.decode().strip())
            if self.said[-1].startswith(("nbd", "nbds")):
                return
        assert process.stderr is not None
        raise AssertionError(f"it did not start: {process.stderr.read()!r}")

    @property
    def uri(self) -> str:
        return self.said[-1]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal, after which the process must end properly."""
        self.process.send_signal(number)
        self.assert_ended_well()

    def assert_ended_well(self) -> None:
        _, said = self.process.communicate(timeout=ENDS)
        assert (self.process.returncode, said) == (0, b"")


@contextlib.contextmanager
def serving(*words: str | Path, program: Sequence[str | Path] = (FVD,)) -> Iterator[Serving]:
    """A server with these options; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*program, "serve", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=TOOLS_ENV
    )
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def greedy_client(path: Path, length: int) -> Iterator[None]:
    """A client that requests `length` bytes of the default export, and reads none of them."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.recv(18, socket.MSG_WAITALL)
        client.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 0))
        client.recv(10, socket.MSG_WAITALL)
        client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, length))
        client.recv(1, socket.MSG_PEEK)
        yield


def io(uri: str, *commands: str) -> str:
    """Runs `qemu-io` on an export."""
    words = [word for command in commands for word in ("-c", command)]
    return run("qemu-io", "-f", "raw", *words, uri).stdout.decode()


def refused(*words: str | Path) -> str:
    """The error of `fvd serve` when it cannot serve: one line."""
    done = run(FVD, "serve", *words, ok=(1,))
    said = done.stderr.decode()
    assert done.stdout == b""
    assert said.startswith("fvd: ")
    assert said.count("\n") == 1, said
    return said


def wait_for_death(pid: int) -> None:
    """Waits for a process that is not a child of this process."""
    handle = os.pidfd_open(pid)
    try:
        assert select.select([handle], [], [], ENDS)[0], "it goes on"
    finally:
        os.close(handle)


def wait_until_listening(path: Path) -> None:
    wait_until(path.exists)


def wait_until(has_come: Callable[[], bool]) -> None:
    """Waits for an event of another process or thread."""
    deadline = time.monotonic() + ENDS
    while not has_come():
        assert time.monotonic() < deadline
        time.sleep(0.01)
