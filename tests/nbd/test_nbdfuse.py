"""`nbdfuse` of libnbd: the export as a file, which any program can read and write."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import MIB, TOOLS_ENV, run
from support.serving import Disk, Server


@contextmanager
def mounted(server: Server, folder: Path) -> Iterator[Path]:
    """The export as a file, until the end of the block."""
    assert Path("/dev/fuse").exists(), "nbdfuse needs /dev/fuse: load the kernel module fuse"
    file = folder / "mounted.raw"
    file.touch()
    pid = folder / "nbdfuse.pid"
    with subprocess.Popen(
        ["nbdfuse", "--pidfile", pid, file, server.uri], env=TOOLS_ENV, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_until_mounted(process, pid)
            yield file
        finally:
            run("fusermount3", "-u", file, ok=(0, 1))
            process.wait(20)


def wait_until_mounted(process: subprocess.Popen[bytes], pid: Path) -> None:
    """Waits for the PID file, which nbdfuse writes after it has mounted the file."""
    for _ in range(2400):
        if pid.exists() and pid.read_text():
            return
        if process.poll() is not None:
            break
        time.sleep(0.025)
    process.kill()
    assert process.stderr is not None
    pytest.fail(f"nbdfuse did not mount: {process.stderr.read().decode()}")


def test_the_disk_is_read_and_written_as_a_file(disk: Disk, tmp_path: Path) -> None:
    expected = bytearray(disk.content)
    with disk.serve() as server, mounted(server, tmp_path) as file:
        assert file.stat().st_size == len(disk.content)
        assert file.read_bytes() == disk.content
        with file.open("r+b") as opened:
            for offset in (100, MIB - 50, 7 * MIB + 1, len(expected) - 5000):
                opened.seek(offset)
                opened.write(b"written through fuse" * 250)
                expected[offset : offset + 5000] = b"written through fuse" * 250
        run("dd", f"if={file}", "of=/dev/null", "bs=64k", "iflag=fullblock")
    assert disk.read() == bytes(expected)
