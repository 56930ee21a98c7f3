"""The load of `fvd bench`: requests to an open image, and how long each takes."""

from __future__ import annotations

import time

import fvd
from fvd.cli import _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypedDict, Unpack

    from fvd import aio
    from fvd._remote import Remote
    from fvd.types import CacheMode, Mode

    class Opening(TypedDict):
        """How the image is opened."""

        cache: CacheMode
        force_share: bool
        trust: list[str]
        cache_dir: str | None
        remote: Remote | None


class Plan:
    """What is sent: `count` requests of `size` bytes each, `depth` of them at a time."""

    def __init__(self) -> None:
        """Set the defaults of qemu-img."""
        self.count = 75000
        self.size = 4096
        self.depth = 64
        self.offset = 0
        """Bytes of the disk before the first request."""
        self.step = 0
        """Bytes from one request to the next; 0: the size of a request."""
        self.seed: int | None = None
        """If it is given, the offsets are random: whole steps after `offset`."""
        self.writes = False
        self.pattern = 0
        self.flush_interval = 0
        """A flush after this number of requests; 0: none."""
        self.drains = True
        """Whether a flush waits for the requests before it, and those after it wait for the flush."""

    @property
    def stride(self) -> int:
        """Bytes from one request to the next."""
        return self.step or self.size

    def offsets(self, disk_size: int) -> Iterator[int]:
        """Yield the offsets of the requests, all within a disk of `disk_size` bytes. Goes on for ever.

        Raises `ValueError` if no request fits.
        """
        if self.offset + self.size > disk_size:
            raise ValueError(
                f"{self.size} bytes from {self.offset} lie beyond the end of the disk ({disk_size} bytes)"
            )
        return self._random(disk_size) if self.seed is not None else self._in_order(disk_size)

    def _in_order(self, disk_size: int) -> Iterator[int]:
        at = self.offset
        while True:
            yield at
            at = (at + self.stride) % disk_size
            if at + self.size > disk_size:
                at = 0

    def _random(self, disk_size: int) -> Iterator[int]:
        import random

        places = (disk_size - self.offset - self.size) // self.stride + 1
        source = random.Random(self.seed)
        while True:
            yield self.offset + source.randrange(places) * self.stride


class Latencies:
    """Times in nanoseconds, counted in classes that are less than 1 % wide."""

    def __init__(self) -> None:
        """Start with no time."""
        self.most = 0
        self.total = 0
        self._counts: dict[int, int] = {}

    def add(self, nanoseconds: int) -> None:
        """Count a time."""
        shift = max(0, nanoseconds.bit_length() - 8)
        lower = nanoseconds >> shift << shift
        self._counts[lower] = self._counts.get(lower, 0) + 1
        self.total += 1
        self.most = max(self.most, nanoseconds)

    def percentile(self, percent: int) -> int:
        """Return the time that `percent` % of the requests keep to; 0 without any."""
        left = -(-self.total * percent // 100)
        for lower, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return lower
        return 0


class Outcome:
    """How long a run took as a whole, and its requests."""

    def __init__(self, nanoseconds: int, latencies: Latencies) -> None:
        """Store the result."""
        self.nanoseconds = nanoseconds
        self.latencies = latencies


def run(path: str, plan: Plan, heading: str, **opening: Unpack[Opening]) -> Outcome:
    """Send the requests to the image and return how long they took. A write test changes the image.

    Writes `heading` to stdout before the first one.
    """
    mode: Mode = "r+" if plan.writes else "r"
    if plan.depth == 1:
        with fvd.open(path, mode, **opening) as image:
            return one_by_one(image, plan, time.perf_counter_ns, heading)
    import asyncio

    return asyncio.run(_at_once(path, mode, plan, heading, opening))


def one_by_one(image: fvd.Image, plan: Plan, clock: Callable[[], int], heading: str = "") -> Outcome:
    """Send one request after the other, without an event loop."""
    latencies, buffer = Latencies(), bytearray([plan.pattern]) * plan.size
    send = image.pwrite if plan.writes else image.readinto
    offsets = plan.offsets(image.size)
    _output.write(heading)
    begin = clock()
    for number in range(1, plan.count + 1):
        offset = next(offsets)
        before = clock()
        send(buffer, offset)
        latencies.add(clock() - before)
        if plan.flush_interval and number % plan.flush_interval == 0:
            image.flush()
    return Outcome(clock() - begin, latencies)


async def _at_once(path: str, mode: Mode, plan: Plan, heading: str, opening: Opening) -> Outcome:
    from fvd import aio

    async with aio.open(path, mode, **opening) as image:
        return await at_once(image, plan, time.perf_counter_ns, heading)


async def at_once(image: aio.Image, plan: Plan, clock: Callable[[], int], heading: str = "") -> Outcome:
    """Keep `depth` requests in flight."""
    load = _Load(image, plan, clock)
    _output.write(heading)
    begin = clock()
    if not plan.flush_interval or not plan.drains:
        await load.send(plan.count)
    else:
        for first in range(0, plan.count, plan.flush_interval):
            count = min(plan.flush_interval, plan.count - first)
            await load.send(count)
            if count == plan.flush_interval:
                await image.flush()
    return Outcome(clock() - begin, load.latencies)


class _Load:
    """Tasks that take the next request each, until there are no more."""

    def __init__(self, image: aio.Image, plan: Plan, clock: Callable[[], int]) -> None:
        self.latencies = Latencies()
        self._image = image
        self._plan = plan
        self._clock = clock
        self._offsets = plan.offsets(image.size)
        self._left = 0
        self._sent = 0

    async def send(self, count: int) -> None:
        """Send `count` requests, and wait for them."""
        import asyncio

        self._left = count
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._plan.depth, count)):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        plan, clock = self._plan, self._clock
        buffer = bytearray([plan.pattern]) * plan.size
        send = self._image.pwrite if plan.writes else self._image.readinto
        while self._left:
            self._left -= 1
            self._sent += 1
            flushes = plan.flush_interval and not plan.drains and self._sent % plan.flush_interval == 0
            offset = next(self._offsets)
            before = clock()
            await send(buffer, offset)
            self.latencies.add(clock() - before)
            if flushes:
                await self._image.flush()
