"""Content of test disks, and comparing whole disks without holding them in memory twice."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import fvd
from support import MIB, run


class Readable(Protocol):
    @property
    def size(self) -> int: ...
    def pread(self, count: int, offset: int, /) -> bytes: ...


def pieces(image: Readable, size: int = MIB) -> Iterator[bytes]:
    """Yields the content of the disk in pieces."""
    for offset in range(0, image.size, size):
        yield image.pread(min(size, image.size - offset), offset)


def content(image: Readable) -> bytes:
    return b"".join(pieces(image))


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_disk(path: Path, size: int, *, seed: int, density: float = 0.5, piece: int = 64 * 1024) -> Path:
    """A raw file of `size` bytes, with random pieces and holes between them."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        for offset in range(0, size, piece):
            if rng.random() < density:
                file.seek(offset)
                file.write(rng.randbytes(min(piece, size - offset)))
        file.truncate(size)
    return path


def allocated(path: Path) -> int:
    """Bytes that the file occupies, without its holes."""
    return path.stat().st_blocks * 512


def ext4_disk(path: Path, size: int, files: Path) -> Path:
    """A raw disk with an ext4 file system that contains the files of a folder."""
    with path.open("wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-b", "4096", "-d", files, path)
    run("e2fsck", "-fn", path)
    return path


def fill_folder(folder: Path, *, seed: int, files: int = 40) -> Path:
    """A folder with files of many sizes, some of them in subfolders, some sparse."""
    rng = random.Random(seed)
    for number in range(files):
        path = folder / f"d{number % 5}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([0, 1, 511, 4096, 5000, 70_000, 300_000])))
        if number % 7 == 0:
            os.truncate(path, 2 * MIB)
    return folder


class Ballast:
    """A file that takes all the space of the file system of `place` except `left` bytes."""

    def __init__(self, place: Path, left: int) -> None:
        self.path = place / "ballast"
        state = os.statvfs(place)
        with self.path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - left)

    def fill(self) -> None:
        """Takes the rest, to the last block, including space that the file system frees after delayed
        allocation.
        """
        for _ in range(3):
            self._fill_once()

    def _fill_once(self) -> None:
        with self.path.open("ab", buffering=0) as file:
            for size in (MIB, 4096, 512):
                while True:
                    try:
                        file.write(b"\xff" * size)
                    except OSError:
                        break
            os.fsync(file.fileno())

    def drop(self) -> None:
        self.path.unlink()


def whole_content(disk: Path, trust: Path) -> bytes | None:
    """The content for those who detect the format; None if there is no disk, or an unfinished one."""
    if not disk.exists():
        return None
    try:
        format = fvd.info(disk)["format"]
    except fvd.InvalidImageError as refused:
        if "not finished" not in str(refused):
            raise
        return None
    if format == "raw":
        return disk.read_bytes()
    with fvd.open(disk, trust=[trust]) as image:
        return content(image)
