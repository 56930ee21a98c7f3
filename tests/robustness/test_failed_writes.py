"""A disk that fails for a moment, under a real file system: what was flushed must be there after a restart.

The kernel reports a lost write once, and keeps the page clean with its new content. A restarted program sees
this content until the kernel drops the page, so it must not conclude that the disk has it.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fvd
from support import KIB, MIB, run, unmount

OLD, NEW, OTHER = b"\x11", b"\xaa", b"\x22"
BLOCK = 4 * KIB


def eventually(is_true: Callable[[], bool], what: str) -> None:
    """Waits until the callable returns True."""
    for _ in range(3000):
        if is_true():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} does not come")


def finish(*command: str | Path) -> None:
    """Removes a layer, if it exists."""
    subprocess.run(command, check=False)


class FailingDisk:
    """ext4 on a loop device on a FUSE file on an NBD server, whose writes fail in the context `broken`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.mount = place / "mnt"
        self.inject = place / "inject"
        self.cleanup = contextlib.ExitStack()

    def start(self) -> None:
        """Sets up the layers."""
        socket, fuse, pid = self.place / "nbd.sock", self.place / "fuse", self.place / "nbdkit.pid"
        for folder in (self.mount, fuse):
            folder.mkdir()
        server = subprocess.Popen(
            [
                *("nbdkit", "-f", "-U", socket, "-P", pid, "--filter=error", "memory", "256M"),
                *("error-pwrite=EIO", "error-pwrite-rate=100%", f"error-pwrite-file={self.inject}"),
            ]
        )
        self.cleanup.callback(server.wait)
        self.cleanup.callback(server.terminate)
        eventually(socket.exists, "the NBD server")
        client = subprocess.Popen(["nbdfuse", fuse / "disk", f"nbd+unix:///?socket={socket}"])
        self.cleanup.callback(client.wait)
        self.cleanup.callback(finish, "fusermount3", "-u", fuse)
        eventually((fuse / "disk").exists, "the FUSE file")
        self.device = run("losetup", "-f", "--show", fuse / "disk").stdout.decode().strip()
        self.cleanup.callback(finish, "losetup", "-d", self.device)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device)
        self.attach()
        self.cleanup.callback(finish, "umount", self.mount)

    def attach(self) -> None:
        """Mounts it with options that make the kernel seldom write by itself."""
        run("mount", "-o", "noatime,commit=60", self.device, self.mount)

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Makes writes fail."""
        self.inject.touch()
        try:
            yield
        finally:
            self.inject.unlink()

    def lose_the_page_cache(self) -> None:
        """Leaves only what the disk has."""
        unmount(self.mount)
        self.attach()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    """A disk that can fail."""
    disk = FailingDisk(tmp_path)
    with disk.cleanup:
        disk.start()
        yield disk


def overlay(place: Path) -> Path:
    """An overlay with a separate data file and with some local blocks."""
    (place / "base.raw").write_bytes(OLD * MIB)
    path = place / "image.fvd"
    fvd.create(
        path,
        backing_file="base.raw",
        backing_format="raw",
        options={"data_file": "data.raw", "block_size": BLOCK},
    )
    with fvd.open(path, "r+") as image:
        image.pwrite(OTHER * BLOCK, MIB // 2)
    return path


def fail_to_close(disk: FailingDisk, path: Path) -> None:
    """A session flushes a block at the start, and then the disk fails during its close."""
    image = fvd.open(path, "r+")
    image.pwrite(NEW * BLOCK, 0)
    image.flush()
    with disk.broken(), pytest.raises(OSError, match="Input/output error"):
        image.close()


def test_a_flushed_write_survives_one_error_and_a_restart(disk: FailingDisk) -> None:
    path = overlay(disk.mount)
    fail_to_close(disk, path)
    with fvd.open(path, "r+") as image:
        assert image.pread(4, 0) == NEW * 4, "the journal has it"
    assert fvd.info(path)["dirty-flag"] is False
    disk.lose_the_page_cache()
    with fvd.open(path) as image:
        assert image.pread(4, 0) == NEW * 4
        assert image.pread(4, MIB // 2) == OTHER * 4
        assert image.pread(4, BLOCK) == OLD * 4


def test_a_flushed_write_survives_a_recovery_that_failed(disk: FailingDisk) -> None:
    path = overlay(disk.mount)
    fail_to_close(disk, path)
    with disk.broken(), pytest.raises(OSError, match="Input/output error"):
        fvd.open(path, "r+")
    with fvd.open(path, "r+") as image:
        assert image.pread(4, 0) == NEW * 4
    disk.lose_the_page_cache()
    with fvd.open(path) as image:
        assert image.pread(4, 0) == NEW * 4


@pytest.mark.parametrize("repair", ["check", "amend"])
def test_a_flushed_write_survives_a_repair_after_an_error(disk: FailingDisk, repair: str) -> None:
    path = overlay(disk.mount)
    fail_to_close(disk, path)
    if repair == "check":
        fvd.check(path, repair="all")
    else:
        fvd.amend(path, num_prefetch_slots=3)
    disk.lose_the_page_cache()
    with fvd.open(path) as image:
        assert image.pread(4, 0) == NEW * 4
