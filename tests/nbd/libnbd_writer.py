"""Not a test: a client that records what is durable. For /usr/bin/python3 and the libnbd of the system.

    libnbd_writer.py URI BATCHES

BATCHES is a JSON file, a list of lists of operations: kind, offset, length, number, whether it must be
durable when acknowledged (FUA). The operations of a batch are all in flight at once, over three connections;
then the client flushes. It prints a line once the first batch is durable. When the server is gone, it prints
how many batches are durable, and which durable writes of the next batch were acknowledged.
"""

import importlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

nbd: Any = importlib.import_module("nbd")
SECTOR = 512
CONNECTIONS = 3


def payload(number: int, offset: int, length: int) -> bytes:
    """The content of an operation: every sector contains the number of the operation and of the sector."""
    sectors = range(offset // SECTOR, (offset + length) // SECTOR)
    return b"".join(struct.pack("<QQ", number, sector) * (SECTOR // 16) for sector in sectors)


class Batch:
    """Operations in flight."""

    def __init__(self, clients: list[Any], operations: list[Any]) -> None:
        self.durable: list[int] = []
        self._clients = clients
        self._waiting = 0
        self._failed = False
        for position, operation in enumerate(operations):
            self._start(clients[position % len(clients)], *operation)

    def _start(self, client: Any, kind: str, offset: int, length: int, number: int, fua: bool) -> None:
        def done(error: Any) -> int:
            self._waiting -= 1
            self._failed |= error.value != 0
            if fua and not error.value:
                self.durable.append(number)
            return 1

        flags = nbd.CMD_FLAG_FUA if fua else 0
        self._waiting += 1
        if kind == "write":
            buffer = nbd.Buffer.from_bytearray(bytearray(payload(number, offset, length)))
            client.aio_pwrite(buffer, offset, done, flags)
        elif kind == "zero":
            client.aio_zero(length, offset, done, flags)
        elif kind == "trim":
            client.aio_trim(length, offset, done, flags)
        else:
            client.aio_pread(nbd.Buffer(length), offset, done)

    def wait(self) -> None:
        while self._waiting and not self._failed:
            for client in self._clients:
                client.poll(1)
        if self._failed:
            raise nbd.Error("an operation failed", 0)


def main(uri: str, batches: list[list[Any]]) -> None:
    clients = [nbd.NBD() for _ in range(CONNECTIONS)]
    for client in clients:
        client.connect_uri(uri)
    flushed, batch = 0, None
    try:
        for operations in batches:
            batch = None
            batch = Batch(clients, operations)
            batch.wait()
            clients[flushed % CONNECTIONS].flush()
            flushed += 1
            if flushed == 1:
                print("started", flush=True)
    except nbd.Error as error:
        print(f"{error}", file=sys.stderr)
    durable = batch.durable if batch and flushed < len(batches) else []
    print(json.dumps({"flushed": flushed, "durable": durable}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
