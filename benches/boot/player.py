"""Plays a trace against an image: what a machine would read, when it would read it.

    python -m benches.boot.player TRACE SECONDS IMAGE TRUST

Starts when a line comes on its standard input, and prints the seconds until the last read has ended. SECONDS
is how long the machine would need on a disk that answers at once.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fvd import aio

from .trace import Read, read


def lasting(reads: Sequence[Read], seconds: float) -> list[Read]:
    """The trace of a machine that needs this long on a disk that answers at once."""
    ends: list[int] = []
    for one in reads:
        ends.append((0 if one.after is None else ends[one.after]) + one.thinking_us)
    times = max(ends) / (seconds * 1e6)
    return [replace(one, thinking_us=round(one.thinking_us / times)) for one in reads]


async def play(image: aio.Image, reads: Sequence[Read]) -> None:
    """Until the last read has ended."""
    followers: dict[int | None, list[int]] = {}
    for number, one in enumerate(reads):
        followers.setdefault(one.after, []).append(number)

    async def run(number: int) -> None:
        """The read and all that follow it."""
        next_ones = [number]
        # A chain of single reads does not nest.
        while len(next_ones) == 1:
            one = reads[next_ones[0]]
            await asyncio.sleep(one.thinking_us / 1e6)
            await image.pread(one.length, one.offset)
            next_ones = followers.get(next_ones[0], [])
        await asyncio.gather(*map(run, next_ones))

    await asyncio.gather(*map(run, followers.get(None, [])))


async def main(trace: Path, seconds: float, path: Path, trust: str) -> None:
    reads = lasting(read(trace), seconds)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    async with aio.open(path, "r+", trust=[trust]) as image:
        await play(image, reads)
        took = time.monotonic() - started
    print(took, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
