"""The disks that are served."""

import os
import random
import subprocess
from pathlib import Path

import fvd
from fvd.types import ImageOptions

MIB = 1 << 20
TIB = 1 << 40

# Options of the images that fvd makes.
FVD: dict[str, ImageOptions] = {
    "fvd": {},
    "compact": {"compact_image": True},
    "fvd-64k": {"block_size": 64 << 10},
    "fvd-4k": {"block_size": 4 << 10},
}
QCOW2 = {"qcow2": "cluster_size=64k", "qcow2-sub": "cluster_size=128k,extended_l2=on"}


class Disks:
    """Creates the disks in a folder. Full ones are created once and kept, the others anew for each run."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.size = size_mib * MIB

    def size_of(self, state: str) -> int:
        """Size in bytes. An empty disk must be large enough for the writes of a run."""
        return {"huge": TIB, "empty": 4 * self.size}.get(state, self.size)

    def make(self, format: str, state: str) -> str:
        """The path of a disk, or its size if the server needs no disk.

        `written`: full, its file written in pieces of 128 KiB. `converted`: full, made by `fvd convert` or
        `qemu-img convert`, or, if raw, by `cp`. The size of writes decides
        how large the units of the page cache are.
        """
        if format == "none":
            return str(self.size_of(state))
        if state == "full":
            path = self.full(format)
            warm(path)
            return os.fspath(path)
        path = self.folder / f"new.{format}"
        path.unlink(missing_ok=True)
        if state == "written":
            copy(self.full(format), path)
            return os.fspath(path)
        if state == "converted":
            self.convert(format, path)
            sync(path)
            return os.fspath(path)
        base = self.full("raw") if state == "overlay" else None
        if base is not None:
            warm(base)
        create(path, format, self.size_of(state), base)
        return os.fspath(path)

    def full(self, format: str) -> Path:
        """A disk of random data."""
        path = self.folder / f"full.{format}"
        if path.exists():
            return path
        if format == "raw":
            fill(path, self.size)
        else:
            self.convert(format, path)
        return path

    def convert(self, format: str, path: Path) -> None:
        """Makes a disk from the full raw one."""
        source = self.full("raw")
        warm(source)
        if format == "raw":
            subprocess.run(["cp", "--reflink=never", source, path], check=True)
        elif format in FVD:
            fvd.convert(source, path, source_format="raw", target_format="fvd", options=FVD[format])
        else:
            options = ["-O", "qcow2", "-o", QCOW2[format]]
            qemu_img("convert", "-f", "raw", *options, os.fspath(source), os.fspath(path))


def create(path: Path, format: str, size: int, base: Path | None) -> None:
    """An empty disk, or an overlay without local data."""
    if format == "raw":
        path.touch()
        os.truncate(path, size)
    elif format in FVD:
        backing = {} if base is None else {"backing_file": base.name, "backing_format": "raw"}
        fvd.create(path, size, options=FVD[format], **backing)  # type: ignore[arg-type]
    else:
        backed = [] if base is None else ["-b", os.fspath(base), "-F", "raw"]
        qemu_img("create", "-q", "-f", "qcow2", "-o", QCOW2[format], *backed, os.fspath(path), str(size))


def fill(path: Path, size: int) -> None:
    """Random pieces of 1 MiB, with few repetitions."""
    pieces = [os.urandom(MIB) for _ in range(64)]
    rng = random.Random(size)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(rng.choice(pieces))
        file.flush()
        os.fsync(file.fileno())


def copy(source: Path, target: Path) -> None:
    """Copies in pieces of 128 KiB, and waits for the disk."""
    with source.open("rb") as old, target.open("wb", buffering=0) as new:
        while piece := old.read(128 << 10):
            new.write(piece)
    sync(target)


def sync(path: Path) -> None:
    """Waits until a file is on the disk, so that no measurement pays for it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def warm(path: Path) -> None:
    """Reads a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)
