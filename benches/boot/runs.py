"""One boot of one way, and what it has cost."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..nbd.measure import cpu_seconds
from ..remote.far import Server as Store
from .debian import Boot, Root, boot
from .ways import Place, Way

SETTLES = 0.3
"""Seconds in which the store logs its last answers."""


@dataclass(frozen=True)
class Run:
    """A boot."""

    way: str
    title: str
    seconds: float
    """From the wish for a machine to its marker: copies, overlays and servers included."""
    machine: Boot
    requests: int
    """Answers of the store, from the wish until the machine is switched off."""
    bytes: int
    processor: float
    """Seconds of processor time: QEMU and what serves its disk, without curl's and that of commands."""

    def __str__(self) -> str:
        return (
            f"{self.way}, {self.title}: {self.seconds:.1f} s, {self.machine.waiting:.2f} s waiting, "
            f"{self.bytes / (1 << 20):.1f} MiB in {self.requests} requests"
        )


def boots(way: Way, store: Store, root: Root, profile: Path, folder: Path) -> Iterator[Run]:
    """All boots of a way, one after the other."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Place(Path(temporary) / "overlays", Path(temporary) / "cache", store, root, profile)
        for title in way.boots:
            if not way.keeps_overlay:
                shutil.rmtree(place.overlays, ignore_errors=True)
            place.overlays.mkdir(exist_ok=True)
            yield one(way, title, place)


def one(way: Way, title: str, place: Place) -> Run:
    requests, size = place.store.answers()
    started = time.monotonic()
    with way.drive(place) as disk:
        prepared = time.monotonic() - started
        machine = boot(place.root, disk.drive)
        processor = machine.processor + sum(cpu_seconds(pid) for pid in disk.servers)
    time.sleep(SETTLES)
    requests_after, size_after = place.store.answers()
    return Run(
        way=way.name,
        title=title,
        seconds=prepared + machine.seconds,
        machine=machine,
        requests=requests_after - requests,
        bytes=size_after - size,
        processor=processor,
    )
