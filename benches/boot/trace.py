"""A recorded boot: what the machine reads of its disk, and how long it thinks between reads.

The file is text, so that any language reads it. After lines with `#`, each read is a line of four numbers:

    OFFSET LENGTH AFTER THINKING

OFFSET and LENGTH are in sectors of 512 bytes. The read begins THINKING microseconds after read AFTER has
ended, counted back from this one: 1 is the read before, 0 the start of the machine. So reads that the machine
has under way together stay together, and a faster or slower disk moves them all.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

SECTOR = 512


@dataclass(frozen=True)
class Read:
    """One read of the disk."""

    offset: int
    """In bytes."""
    length: int
    """In bytes."""
    after: int | None
    """Number of the read whose end this one follows; None: the start."""
    thinking_us: int


@dataclass(frozen=True)
class Timed:
    """A read as a log tells it; times in microseconds."""

    begins: int
    ends: int
    offset: int
    length: int


LINE = re.compile(
    r"^(?P<date>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) connection=(?P<connection>\d+) "
    r"(?P<ends>\.\.\.)?Read id=(?P<id>\d+)(?: offset=(?P<offset>0x[0-9a-f]+) count=(?P<count>0x[0-9a-f]+))?"
)


def from_nbdkit(lines: Iterable[str]) -> list[Timed]:
    """The reads in a log of nbdkit's log filter, in the order in which they begin."""
    started: int | None = None
    open_reads: dict[tuple[str, str], tuple[int, int, int]] = {}
    reads = []
    for line in lines:
        if (found := LINE.match(line)) is None:
            continue
        now = round(datetime.fromisoformat(found["date"]).timestamp() * 1e6)
        started = now if started is None else started
        key = (found["connection"], found["id"])
        if found["ends"]:
            begins, offset, length = open_reads.pop(key)
            reads.append(Timed(begins, now - started, offset, length))
        else:
            open_reads[key] = (now - started, int(found["offset"], 0), int(found["count"], 0))
    return sorted(reads, key=lambda read: (read.begins, read.offset))


def relative(reads: Sequence[Timed]) -> list[Read]:
    """Each read after the one that had ended last when it began."""
    result = []
    for number, read in enumerate(reads):
        ended = [other for other in range(number) if reads[other].ends <= read.begins]
        after = max(ended, key=lambda other: reads[other].ends, default=None)
        since = 0 if after is None else reads[after].ends
        result.append(Read(read.offset, read.length, after, read.begins - since))
    return result


def write(path: Path, reads: Sequence[Read], about: Sequence[str]) -> None:
    lines = [f"# {line}" for line in about]
    for number, read in enumerate(reads):
        back = 0 if read.after is None else number - read.after
        lines.append(f"{read.offset // SECTOR} {read.length // SECTOR} {back} {read.thinking_us}")
    path.write_text("\n".join(lines) + "\n")


def read(path: Path) -> list[Read]:
    reads: list[Read] = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        offset, length, back, thinking = map(int, line.split())
        after = len(reads) - back if back else None
        if after is not None and not 0 <= after < len(reads):
            raise ValueError(f"{path}: read {len(reads)} comes after read {after}, which is not before it")
        reads.append(Read(offset * SECTOR, length * SECTOR, after, thinking))
    return reads
