"""`fvd serve --fork`, `--pid-file`, and signals."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import fvd
from support import FVD, MIB, fvd_command, run

from .processes import ENDS, greedy_client, io, refused, serving, wait_for_death, wait_until


def reopened(image: Path) -> fvd.Image:
    """The image after its server was killed. The kernel may release the locks slightly later."""
    deadline = time.monotonic() + ENDS
    while True:
        try:
            return fvd.open(image, "r+")
        except fvd.InUseError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_fork_returns_when_clients_can_connect(image: Path, socket: Path) -> None:
    pid_file = socket.parent / "pid"
    done = run(FVD, "serve", "--fork", "-t", "--pid-file", pid_file, "-k", socket, image)
    pid = int(pid_file.read_text())
    try:
        uri = done.stdout.decode().splitlines()[-1]
        io(uri, "write -P 3 0 64k")
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for_death(pid)
    assert not pid_file.exists()
    assert not socket.exists()
    with fvd.open(image) as disk:
        assert disk.pread(64 << 10, 0) == b"\3" * (64 << 10)
    fvd_command("check", image)


def test_a_failure_with_fork_reaches_terminal_and_status(tmp_path: Path, socket: Path) -> None:
    assert "No such file" in refused("--fork", "-k", socket, tmp_path / "nothing.fvd")


def test_an_unwritable_pid_file_ends_the_server(image: Path, socket: Path) -> None:
    assert "nowhere" in refused("--pid-file", image.parent / "nowhere" / "pid", "-k", socket, image)
    assert not socket.exists()
    fvd_command("check", image)


def test_simultaneous_signals_count_as_one(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "-e", "0", image) as server:
        io(server.uri, "write -P 4 0 1M")
        # Stopped, so that all of them arrive at once.
        server.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
            server.process.send_signal(number)
        server.assert_ended_well()
    with fvd.open(image) as disk:
        assert disk.pread(MIB, 0) == b"\4" * MIB


def test_a_second_signal_ends_it_at_once_and_loses_no_flush(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "-e", "0", image) as server, greedy_client(socket, 16 * MIB):
        io(server.uri, "write -P 4 0 1M", "flush")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not socket.exists())
        # It has noticed the signal. For a second, others count as the same.
        time.sleep(1.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(ENDS) == 128 + signal.SIGTERM
    with reopened(image) as disk:
        assert disk.pread(MIB, 0) == b"\4" * MIB


def test_a_killed_server_loses_no_flushed_data(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", image) as server:
        io(server.uri, "write -P 4 0 1M", "flush")
        server.process.kill()
        server.process.wait(ENDS)
    with reopened(image) as disk:
        assert disk.pread(MIB, 0) == b"\4" * MIB
    fvd_command("check", image)


def test_it_waits_a_moment_for_locks_of_a_killed_server(image: Path, socket: Path) -> None:
    holder = fvd.open(image, "r+")
    release = threading.Timer(0.5, holder.close)
    release.start()
    script = """
import sys
import fvd.cli.serve
from fvd.cli.main import main

fvd.cli.serve.PATIENCE_S = 60.0
sys.exit(main())
"""
    with serving("-k", socket, "-t", image, program=(sys.executable, "-c", script)) as server:
        server.end()
    release.join()
