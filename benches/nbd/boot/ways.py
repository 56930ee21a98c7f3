"""The ways to boot a machine whose base is far away."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from ...boot.debian import Root
from ...boot.drives import Drive, nbd, qcow2_file, qemu_img
from ..measure import serving
from ..servers import Server, fvd_serve
from .bases import FarBase


@dataclass(frozen=True)
class Way:
    """How a machine gets its disk."""

    name: str
    about: str
    drive: Callable[[Path, FarBase, Root], AbstractContextManager[Drive]]
    """Makes the overlay in a folder, unless it is there from an earlier boot."""


@contextmanager
def local(folder: Path, _base: FarBase, root: Root) -> Iterator[Drive]:
    overlay = folder / "local.qcow2"
    if not overlay.exists():
        qemu_img("create", "-q", "-f", "qcow2", "-b", root.disk, "-F", "raw", overlay)
    yield qcow2_file(overlay)


def over_nbd(folder: Path, base: FarBase, root: Root) -> Drive:
    """A qcow2 overlay whose base is the NBD server: reads of a FUSE file would block the main loop."""
    overlay = folder / "overlay.qcow2"
    if not overlay.exists():
        qemu_img("create", "-q", "-u", "-f", "qcow2", overlay, root.disk.stat().st_size)
    return qcow2_file(overlay, backing={"driver": "raw", "file": nbd(base.socket)})


@contextmanager
def direct(folder: Path, base: FarBase, root: Root) -> Iterator[Drive]:
    yield over_nbd(folder, base, root)


@contextmanager
def qcow2(folder: Path, base: FarBase, root: Root) -> Iterator[Drive]:
    yield {"driver": "copy-on-read", "file": over_nbd(folder, base, root)}


def fvd_overlay(name: str, about: str, block_size: str | None = None) -> Way:
    """An FVD overlay, served with copy-on-read."""
    options: ImageOptions = {"copy_on_read": True}
    if block_size is not None:
        options["block_size"] = block_size

    @contextmanager
    def drive(folder: Path, base: FarBase, _root: Root) -> Iterator[Drive]:
        overlay = folder / "overlay.fvd"
        if not overlay.exists():
            fvd.create(
                overlay,
                backing_file=base.file,
                backing_format="raw",
                options=options,
                trust=[base.file.parent],
            )
        server = Server(name, "fvd", fvd_serve("--trust", os.fspath(base.file.parent)), about)
        with serving(server, os.fspath(overlay)) as (_process, path):
            yield nbd(path)

    return Way(name, about, drive)


WAYS = [
    Way("local", "the base is a local file, below a qcow2 overlay", local),
    Way("direct", "each read goes to the base over NBD; writes to a qcow2 overlay", direct),
    Way("qcow2", "a qcow2 overlay with QEMU's copy-on-read filter", qcow2),
    fvd_overlay("fvd", "an FVD overlay with the default block size"),
    fvd_overlay("fvd-512", "blocks of 512 bytes", block_size="512"),
    fvd_overlay("fvd-64k", "blocks of 64 KiB", block_size="64K"),
]
