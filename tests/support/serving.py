"""`fvd serve` as a process, and the images that the tests serve."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import fvd
from support import FVD, KIB, MIB, TOOLS_ENV, fvd_command, run
from support.disks import content, random_disk

STOPS = 30.0
PREFETCH_STARTS = 1  # seconds after the open; the format has only whole seconds


class Server:
    """A running `fvd serve` on a Unix socket. It is ready: clients can connect."""

    def __init__(self, *words: str | Path, shared: int = 0) -> None:
        # The path of a socket has at most 107 bytes. The folders of tests are longer.
        self._folder = Path(tempfile.mkdtemp(prefix="fvd-serve-"))
        self.socket = self._folder / "socket"
        self._said = (self._folder / "stderr").open("w+b")
        command = [FVD, "serve", "-k", self.socket, "-t", "-e", str(shared), *words]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said, env=TOOLS_ENV
        )
        self.uri = self._announced()

    def _announced(self) -> str:
        """The URI, which is the last line that the server prints before it serves."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith((b"nbd://", b"nbd+unix://")):
                return line.decode().strip()
        said = self.stderr()
        self.__exit__(AssertionError)
        raise AssertionError(f"the server did not start: {said}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def export(self, name: str) -> str:
        """The URI of another export."""
        return f"nbd+unix:///{name}?socket={self.socket}"

    def stderr(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def stop(self) -> None:
        """Asks the server to end with SIGTERM, and asserts that it ends properly."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOPS)
        said = self.stderr()
        assert status == 0, f"the server ended with {status}: {said}"
        assert "panicked" not in said, said
        assert "Traceback" not in said, said

    def kill(self) -> None:
        """Kills the server."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if self._process.poll() is None and failure is None:
            self.stop()
        self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()
        shutil.rmtree(self._folder)


@dataclass(frozen=True)
class Disk:
    """An image to serve."""

    path: Path
    content: bytes = field(repr=False)
    """The content that a client must read."""
    fills: bool = False
    """Whether it copies from its base while it is served."""

    def read(self) -> bytes:
        """The content that the engine reads without a server."""
        with fvd.open(self.path) as image:
            return content(image)

    @contextmanager
    def serve(self, *options: str) -> Iterator[Server]:
        """Serves it. Afterwards it must be consistent."""
        with Server(*options, self.path) as server:
            if self.fills:
                time.sleep(PREFETCH_STARTS)
            yield server
        fvd_command("check", self.path)


def plain(folder: Path, size: int) -> Disk:
    return converted(folder, size, "journal_size=1M")


def compact(folder: Path, size: int) -> Disk:
    return converted(folder, size, "compact_image=on,chunk_size=64K,storage_grow_unit=1M")


def converted(folder: Path, size: int, options: str) -> Disk:
    """An image without a base, of which about half is allocated."""
    raw = random_disk(folder / "source.raw", size, seed=1)
    path = folder / "disk.fvd"
    fvd_command("convert", "-f", "raw", "-O", "fvd", "-o", options, raw, path)
    disk = Disk(path, raw.read_bytes())
    raw.unlink()
    return disk


def over_raw(folder: Path, size: int) -> Disk:
    return overlay(folder, size, "raw", "block_size=4K")


def over_qcow2(folder: Path, size: int) -> Disk:
    return overlay(
        folder, size, "qcow2", "block_size=64K,compact_image=on,chunk_size=256K,storage_grow_unit=1M"
    )


def filling(folder: Path, size: int) -> Disk:
    """An image with copy-on-read, whose prefetch takes about as long as a test."""
    disk = overlay(
        folder, size, "raw", f"block_size=16K,copy_on_read=on,prefetch_start_delay={PREFETCH_STARTS}"
    )
    fvd.amend(disk.path, bytes_per_prefetch=64 * KIB, prefetch_max_read_throughput=8 * KIB)
    return Disk(disk.path, disk.content, fills=True)


def overlay(folder: Path, size: int, base_format: str, options: str) -> Disk:
    """An image with some local blocks, over a base that is slightly smaller."""
    raw = random_disk(folder / "base.raw", size - 700 * KIB, seed=2)
    base = raw
    if base_format == "qcow2":
        base = folder / "base.qcow2"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base)
    path = folder / "disk.fvd"
    fvd_command(
        "create", "-q", "-b", base.name, "-F", base_format, "-o", options, path, str(size), cwd=folder
    )
    expected = bytearray(raw.read_bytes().ljust(size, b"\0"))
    with fvd.open(path, "r+") as image:
        for offset in range(10_000, size - MIB, 3 * MIB):
            own = f"{offset:016}".encode() * 1500
            image.pwrite(own, offset)
            expected[offset : offset + len(own)] = own
    return Disk(path, bytes(expected))


KINDS: dict[str, Callable[[Path, int], Disk]] = {
    "plain": plain,
    "compact": compact,
    "over_raw": over_raw,
    "over_qcow2": over_qcow2,
    "filling": filling,
}
