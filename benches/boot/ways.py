"""The ways to boot a machine whose base is on a web server."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from ..nbd.measure import serving
from ..nbd.servers import Server, fvd_serve, nbdkit
from ..remote.far import Server as Store
from .debian import Root
from .drives import Drive, nbd, qcow2_file, qcow2_overlay, qemu_img, raw


@dataclass(frozen=True)
class Place:
    """What a machine has: a folder for its overlay, a folder for its host's cache, the store."""

    overlays: Path
    cache: Path
    store: Store
    root: Root
    profile: Path
    """What an earlier boot of the same disk has read, as `fvd profile export` writes it."""

    @property
    def url(self) -> str:
        return self.store.url(self.root.disk.name)


@dataclass
class Disk:
    """A disk that is ready for a machine."""

    drive: Drive
    servers: list[int] = field(default_factory=list)
    """Process numbers of those who serve it."""


@dataclass(frozen=True)
class Way:
    """How a machine gets its disk."""

    name: str
    about: str
    drive: Callable[[Place], AbstractContextManager[Disk]]
    """Makes the overlay, unless it is there from an earlier boot."""
    boots: tuple[str, ...] = ("cold",)
    keeps_overlay: bool = True
    """Whether a later boot has the overlay of the one before; otherwise it is another machine."""


@contextmanager
def local(place: Place) -> Iterator[Disk]:
    yield Disk(local_overlay(place, place.root.disk))


def local_overlay(place: Place, base: Path) -> Drive:
    overlay = place.overlays / "local.qcow2"
    if not overlay.exists():
        qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
    return qcow2_file(overlay)


@contextmanager
def full_copy(place: Place) -> Iterator[Disk]:
    copy = place.overlays / "copy.raw"
    subprocess.run(["curl", "-s", "-S", "-f", "-o", copy, place.url], check=True)
    yield Disk(local_overlay(place, copy))


def over(place: Place, file: Drive) -> Drive:
    size = place.root.disk.stat().st_size
    return qcow2_overlay(place.overlays / "overlay.qcow2", size, raw(file))


@contextmanager
def qemu_curl(place: Place) -> Iterator[Disk]:
    yield Disk(over(place, {"driver": "http", "url": place.url}))


def nbdkit_curl(name: str, about: str, *filters: str) -> Way:
    """A qcow2 overlay over nbdkit's plugin; words with `=` are for the filters."""

    @contextmanager
    def drive(place: Place) -> Iterator[Disk]:
        options = [word for word in filters if "=" in word]
        words = [f"--filter={word}" for word in filters if "=" not in word]
        server = Server(name, "raw", nbdkit("-r", *words, "curl", "{disk}", *options), about)
        with serving(server, place.url) as (process, path):
            yield Disk(over(place, nbd(path)), [process.pid])

    return Way(name, about, drive)


def fvd_overlay(
    name: str,
    about: str,
    *,
    has_profile: bool = False,
    has_cache: bool = False,
    boots: tuple[str, ...] = ("cold",),
    keeps_overlay: bool = True,
) -> Way:
    """An FVD overlay on the URL."""
    options: ImageOptions = {"copy_on_read": True}
    if has_profile:
        options["profile_directed_prefetch_start_delay"] = 0

    @contextmanager
    def drive(place: Place) -> Iterator[Disk]:
        overlay = place.overlays / "overlay.fvd"
        trust = place.store.url("")
        if not overlay.exists():
            fvd.create(overlay, backing_file=place.url, backing_format="raw", options=options, trust=[trust])
            if has_profile:
                fvd.import_profile(overlay, place.profile)
        more = ["--cache-dir", os.fspath(place.cache)] if has_cache else []
        server = Server(name, "fvd", fvd_serve("--trust", trust, *more), about)
        with serving(server, os.fspath(overlay)) as (process, path):
            yield Disk(nbd(path), [process.pid])

    return Way(name, about, drive, boots, keeps_overlay)


MACHINES = ("first machine", "second machine")
WAYS = [
    Way("local", "the base is a local file, below a qcow2 overlay", local),
    Way("full copy", "curl fetches all of the base first", full_copy),
    Way("qemu curl", "a qcow2 overlay on the URL: QEMU's own driver", qemu_curl),
    nbdkit_curl("nbdkit curl", "a qcow2 overlay on nbdkit's curl plugin"),
    nbdkit_curl(
        "nbdkit curl, filters",
        "with its filters for reading ahead and caching",
        "readahead",
        "cache",
        "cache-on-read=true",
    ),
    fvd_overlay("fvd", "an FVD overlay", boots=("cold", "again")),
    fvd_overlay("fvd, profile", "with the profile of an earlier boot", has_profile=True),
    fvd_overlay(
        "fvd, host cache", "two machines of one host", has_cache=True, boots=MACHINES, keeps_overlay=False
    ),
    fvd_overlay(
        "fvd, both",
        "two machines of one host, with the profile",
        has_profile=True,
        has_cache=True,
        boots=MACHINES,
        keeps_overlay=False,
    ),
]
