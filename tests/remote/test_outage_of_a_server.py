"""What a guest and an administrator see of `fvd serve` while the store of a base does not answer."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from support import FVD, MIB, TOOLS_ENV
from support.fault_server import DATA, FaultServer, until
from support.serving import Server

FAR = 3 * MIB
GUEST = Path(__file__).with_name("libnbd_guest.py")


class Guest:
    """A client with one connection."""

    def __init__(self, uri: str) -> None:
        self._process = subprocess.Popen(
            ["/usr/bin/python3", GUEST, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, *arguments: int | str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_guest_works_on_what_is_local_and_its_other_reads_wait(server: FaultServer, path: Path) -> None:
    port = free_port()
    outage = f'fvd_remote_outage_seconds{{store="{server.host}"}}'
    options = ["--trust", server.url(""), f"--metrics=localhost:{port}"]
    with Server(*options, path) as served, Guest(served.uri) as guest:
        assert guest.ask("pread", 0, 16) == DATA[:16].hex()
        assert metrics(port)[outage] == 0
        server.fail("closed")
        assert guest.ask("begin", FAR, 16) == "ok"
        until(lambda: metrics(port)["fvd_remote_waiting"] > 0)
        assert guest.ask("pwrite", MIB, "w" * 4096) == "ok"
        assert guest.ask("flush") == "ok"
        assert guest.ask("pread", MIB, 4096) == (b"w" * 4096).hex()
        until(lambda: metrics(port)[outage] > 0.1)
        assert metrics(port)["fvd_remote_retries_total"] > 0
        assert guest.ask("poll") is False
        server.recover()
        assert guest.ask("end") == DATA[FAR : FAR + 16].hex()
        assert metrics(port)[outage] == 0


def test_with_report_a_guest_gets_eio_in_time(server: FaultServer, path: Path) -> None:
    options = ["--trust", server.url(""), "--base-error=report", "--base-timeout=0.5"]
    with Server(*options, path) as served, Guest(served.uri) as guest:
        server.fail("silence")
        assert guest.ask("pread", FAR, 16) == "EIO"
        assert guest.ask("pwrite", FAR, "x" * 4096) == "ok"
        assert guest.ask("flush") == "ok"
        assert guest.ask("pread", FAR, 2) == b"xx".hex()
        server.recover()
        assert guest.ask("pread", FAR + MIB // 2, 16) == DATA[FAR + MIB // 2 :][:16].hex()


def test_a_guest_that_waits_does_not_keep_the_server_from_a_second_signal(
    server: FaultServer, path: Path
) -> None:
    with Server("--trust", server.url(""), path) as served, Guest(served.uri) as guest:
        server.fail("silence")
        guest.ask("begin", FAR, 16)
        guest.ask("pwrite", 0, "x" * 512)
        os.kill(served.pid, signal.SIGTERM)
        # A signal within a second of the first one counts as the same signal.
        time.sleep(1.5)
        os.kill(served.pid, signal.SIGTERM)
        until(lambda: has_ended(served.pid))
        served.kill()


def has_ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


@contextmanager
def on_terminal(*words: str | Path) -> Iterator[tuple[int, str]]:
    """Runs `fvd serve` with a terminal of 80 columns as stderr. Returns the terminal and the URI."""
    terminal, other = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [FVD, "serve", "-t", *words], stdout=subprocess.PIPE, stderr=other, env=TOOLS_ENV, text=True
    )
    os.close(other)
    assert process.stdout is not None
    try:
        uri = next(line for line in process.stdout if line.startswith("nbd"))
        yield terminal, uri.strip()
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)


def test_the_live_line_says_which_store_is_waited_for(server: FaultServer, path: Path) -> None:
    options = ["-p", str(free_port()), "--trust", server.url("")]
    with on_terminal(*options, path) as (terminal, uri), Guest(uri) as guest:
        server.fail("503")
        guest.ask("begin", FAR, 16)
        seen = ""
        while "waits for" not in seen:
            assert select.select([terminal], [], [], 60)[0], seen
            seen += os.read(terminal, 4096).decode()
        while "\r" not in seen.partition("waits for")[2]:
            seen += os.read(terminal, 4096).decode()
        lines = [line.removeprefix("\x1b[K") for line in seen.split("\r")]
        line = next(line for line in lines if "waits for" in line)
        assert line.startswith(f"1 client  waits for {server.host} since "), line
        assert " s: status 503 " in line, line
        assert len(line) <= 79, line
        server.recover()
        assert guest.ask("end") == DATA[FAR : FAR + 16].hex()
