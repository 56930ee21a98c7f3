"""A writer that is killed: what it flushed must be there."""

import inspect
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import KIB, MIB, fvd_command
from support.disks import content, random_disk

ROUNDS = 20
SIZE = 4 * MIB

WRITER = """
import random, sys
from collections.abc import Iterator
import fvd
exec(sys.argv[3])
disk = fvd.open(sys.argv[1], "r+")
for number, (offset, data) in enumerate(writes(sys.argv[2])):
    disk.pwrite(data, offset)
    if number % 7 == 6:
        disk.flush()
        print(number, flush=True)
"""


def writes(seed: str) -> Iterator[tuple[int, bytes]]:
    rng = random.Random(seed)
    for _ in range(10_000):
        size = rng.choice([512, 1536, 4096, 65536])
        yield rng.randrange((SIZE - size) // 512 + 1) * 512, rng.randbytes(size)


@pytest.mark.parametrize("compact", ["on", "off"])
def test_flushed_writes_survive_a_kill(tmp_path: Path, compact: str) -> None:
    random_disk(tmp_path / "base.raw", 3 * MIB, seed=11)
    image = tmp_path / "image.fvd"
    options = f"compact_image={compact},block_size=10K,journal_size=64K"
    if compact == "on":
        options += f",chunk_size={12 * KIB},storage_grow_unit=1M"
    fvd_command("create", "-q", "-f", "fvd", "-b", "base.raw", "-F", "raw", "-o", options, image, str(SIZE))
    rng = random.Random(f"kill {compact}")
    with fvd.open(image) as disk:
        before = content(disk)
    for number in range(ROUNDS):
        seed = f"{compact} {number}"
        flushed = killed_writer(image, seed, rng.uniform(0.001, 0.08))
        with fvd.open(image, "r" if rng.random() < 0.5 else "r+") as disk:
            now = content(disk)
        assert_allowed(before, now, seed, flushed)
        before = now
    fvd_command("check", "-q", "-r", "all", image)
    with fvd.open(image) as disk:
        assert content(disk) == before


def killed_writer(image: Path, seed: str, seconds: float) -> int:
    """Writes for some time after the first flush. Returns the number of the last durable write."""
    source = f"SIZE = {SIZE}\n{inspect.getsource(writes)}"
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(image), seed, source]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        numbers = first + process.stdout.read()
    # The last line may be incomplete.
    return int(numbers[: numbers.rindex(b"\n")].split()[-1])


def assert_allowed(before: bytes, now: bytes, seed: str, flushed: int) -> None:
    """Each sector has the content of the last flush, or that of a later write."""
    durable = bytearray(before)
    later: dict[int, list[bytes]] = {}
    for number, (offset, data) in enumerate(writes(seed)):
        if number <= flushed:
            durable[offset : offset + len(data)] = data
        elif number <= flushed + 5000:
            for at in range(0, len(data), 512):
                later.setdefault(offset + at, []).append(data[at : at + 512])
    for at in range(0, SIZE, 512):
        sector = now[at : at + 512]
        assert sector == durable[at : at + 512] or sector in later.get(at, ()), f"sector at {at}, seed {seed}"
