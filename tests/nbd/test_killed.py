"""A server that is killed at any moment: what a flush or a durable write acknowledged must be there
afterwards.
"""

import json
import os
import random
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import fvd
from support import KIB, MIB, fvd_command, run
from support.serving import KINDS, PREFETCH_STARTS, Server

CLIENT = Path(__file__).parent / "libnbd_writer.py"
SEED = os.environ.get("FVD_KILL_SEED") or str(random.SystemRandom().randrange(1 << 32))
ROUNDS = int(os.environ.get("FVD_KILL_ROUNDS", "12"))  # for each kind of disk
BATCHES = 300
SIZE = 4 * MIB
SECTOR = 512
UNLOCKS = 60.0


@dataclass(frozen=True)
class Operation:
    kind: str
    offset: int
    length: int
    number: int
    fua: bool

    def sectors(self) -> range:
        return range(self.offset // SECTOR, (self.offset + self.length) // SECTOR)

    def leaves(self, sector: int) -> bytes:
        """The content of a sector after this operation."""
        if self.kind == "write":
            return struct.pack("<QQ", self.number, sector) * (SECTOR // 16)
        return bytes(SECTOR)


def batch(rng: random.Random, first: int) -> list[Operation]:
    """Operations that may be in flight at once: no two of them change the same sector."""
    taken: set[int] = set()
    operations = []
    for number in range(first, first + 24):
        kind = rng.choices(["write", "zero", "trim", "read"], [12, 2, 2, 3])[0]
        length = rng.choice([SECTOR, 3 * SECTOR, 4 * KIB, 4 * KIB, 20 * KIB, 64 * KIB, 150 * KIB])
        offset = rng.randrange((SIZE - length) // SECTOR + 1) * SECTOR
        operation = Operation(kind, offset, length, number, kind != "read" and rng.random() < 0.1)
        if kind == "read" or taken.isdisjoint(operation.sectors()):
            operations.append(operation)
            taken.update(operation.sectors() if kind != "read" else ())
    return operations


class Model:
    """The contents that each sector may have. After a kill it is set to the content found."""

    def __init__(self, content: bytes) -> None:
        self.learn(content)

    def learn(self, content: bytes) -> None:
        self.allowed = [{content[at : at + SECTOR]} for at in range(0, SIZE, SECTOR)]

    def apply(self, operations: list[Operation], durable: set[int] | None = None) -> None:
        """Applies a batch. `durable`: the numbers of its durable operations; None: all of them."""
        for operation in operations:
            certain = durable is None or operation.number in durable
            for sector in operation.sectors() if operation.kind != "read" else ():
                # A discard is a hint: the old content may remain.
                if certain and operation.kind != "trim":
                    self.allowed[sector] = set()
                self.allowed[sector].add(operation.leaves(sector))

    def wrong(self, content: bytes) -> list[str]:
        """The sectors whose content is not allowed."""
        return [
            f"sector {sector} holds {found[:16].hex()}, not {' or '.join(one[:16].hex() for one in allowed)}"
            for sector, allowed in enumerate(self.allowed)
            if (found := content[sector * SECTOR : (sector + 1) * SECTOR]) not in allowed
        ]


def write_until_killed(
    server: Server, batches: list[list[Operation]], file: Path, seconds: float
) -> tuple[int, set[int]]:
    """Kills the server some time after the first flush. Returns what the client knows to be durable."""
    plain = [[(o.kind, o.offset, o.length, o.number, o.fua) for o in operations] for operations in batches]
    file.write_text(json.dumps(plain))
    command = ["/usr/bin/python3", "-I", os.fspath(CLIENT), server.uri, os.fspath(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        started = client.stdout.readline()
        time.sleep(seconds)
        server.kill()
        out, err = client.communicate(timeout=30)
    assert started == "started\n", err
    told = json.loads(out)
    return told["flushed"], set(told["durable"])


@pytest.mark.parametrize("kind", KINDS)
def test_acknowledged_writes_survive_a_kill(tmp_path: Path, kind: str) -> None:
    disk = KINDS[kind](tmp_path, SIZE)
    if disk.fills:
        fvd.amend(disk.path, prefetch_max_read_throughput=KIB)  # so that one round does not complete it
    rng = random.Random(f"{SEED} {kind}")
    print(f"FVD_KILL_SEED={SEED}")
    model = Model(disk.content)
    cut = 0
    for number in range(ROUNDS):
        batches = [batch(rng, (number * BATCHES + position) * 100 + 1) for position in range(BATCHES)]
        # A server with copy-on-read makes everything that is read local, which would leave less to test.
        before = disk.fills or rng.random() < 0.5
        if before:
            verify(model, disk.read(), f"round {number}, by the engine")
        # The mode of waiting for disks, and the handling of zeros, are random.
        aio = rng.choice([[], ["--aio", "threads"]])
        zeros = ["--detect-zeroes", rng.choice(["off", "on", "unmap"])]
        with Server(*aio, *zeros, "--cache", rng.choice(["writeback", "none"]), disk.path) as server:
            if not before:
                verify(model, copied(server), f"round {number}, by the server")
            if disk.fills and number % 3 == 0:
                time.sleep(PREFETCH_STARTS)
            seconds = rng.choice([0, rng.uniform(0, 0.02), rng.uniform(0, 0.15)])
            flushed, durable = write_until_killed(server, batches, tmp_path / "batches", seconds)
        wait_until_unlocked(disk.path)
        for operations in batches[:flushed]:
            model.apply(operations)
        if flushed < BATCHES:
            cut += 1
            model.apply(batches[flushed], durable)
    assert cut > ROUNDS // 2, "the client was done before the server was killed"
    with Server(disk.path) as server:
        found = copied(server)
        verify(model, found, "the end")
    # A compact image may have leaked storage chunks that were allocated before the kill. Nothing else may be
    # wrong.
    fvd_command("check", disk.path, ok=(0, 3))
    fvd_command("check", "-r", "leaks", disk.path)
    fvd_command("check", disk.path)
    assert disk.read() == found


def wait_until_unlocked(image: Path) -> None:
    """Waits for the lock. The kernel ends the io_uring of a killed process, which holds the lock, after the
    process.
    """
    deadline = time.monotonic() + UNLOCKS
    while True:
        try:
            fvd.open(image).close()
            return
        except fvd.InUseError:
            assert time.monotonic() < deadline, "the lock of a server that was killed is still there"
            time.sleep(0.005)


def copied(server: Server) -> bytes:
    """The disk as the restarted server shows it."""
    return run("nbdcopy", server.uri, "-").stdout


def verify(model: Model, content: bytes, when: str) -> None:
    wrong = model.wrong(content)
    assert not wrong, f"FVD_KILL_SEED={SEED}, {when}: {len(wrong)} sectors, {wrong[:5]}"
    model.learn(content)


def test_the_model_detects_a_lost_write() -> None:
    """Checks that the test above would detect an error."""
    content = bytes(SIZE)
    model = Model(content)
    write = Operation("write", 4096, 1024, 7, False)
    model.apply([write], set())
    assert not model.wrong(content)
    model.apply([write])
    assert len(model.wrong(content)) == 2
