"""Not a test: requests that no correct client sends. For /usr/bin/python3 and the libnbd of the system.

libnbd_client.py URI CASE   prints the answers of the server as JSON
"""

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

# For type checkers, `nbd` would be the name of this folder.
nbd: Any = importlib.import_module("nbd")
KIB = 1 << 10
MIB = 1 << 20
UNKNOWN_FLAG = 1 << 13


def connected(uri: str) -> Any:
    """A client that sends requests without checking them."""
    client = nbd.NBD()
    client.add_meta_context("base:allocation")
    client.connect_uri(uri)
    client.set_strict_mode(0)
    return client


def answer(request: Callable[[], Any]) -> str:
    """The result of a request: "ok", or the name of the error."""
    try:
        request()
    except nbd.Error as error:
        return error.errno or "failed"
    return "ok"


def lives(client: Any) -> bool:
    """Whether the next request gets an answer."""
    return client.aio_is_ready() and answer(lambda: client.pread(4096, 4096)) == "ok"


def extents(*_: object) -> int:
    return 0


def requests(client: Any) -> dict[str, Callable[[], Any]]:
    size = client.get_size()
    sector = b"\xa5" * 512
    return {
        "read that begins at the end": lambda: client.pread(512, size),
        "read over the end": lambda: client.pread(1024, size - 512),
        "read far beyond the end": lambda: client.pread(512, (1 << 62) + 1),
        "read whose end overflows": lambda: client.pread(512, (1 << 64) - 256),
        "write that begins at the end": lambda: client.pwrite(sector, size),
        "write over the end": lambda: client.pwrite(sector, size - 511),
        "write whose end overflows": lambda: client.pwrite(sector, (1 << 64) - 512),
        "trim over the end": lambda: client.trim(MIB, size - 512),
        "trim of everything there is to say": lambda: client.trim((1 << 32) - 1, 0),
        "zero over the end": lambda: client.zero(MIB, size - 512),
        "zero of everything there is to say": lambda: client.zero((1 << 32) - 1, size // 2),
        "cache over the end": lambda: client.cache(MIB, size - 512),
        "status over the end": lambda: client.block_status(MIB, size - 512, extents),
        "read of nothing": lambda: client.pread(0, 0),
        "read of nothing at the end": lambda: client.pread(0, size),
        "write of nothing": lambda: client.pwrite(b"", 0),
        "trim of nothing": lambda: client.trim(0, 0),
        "zero of nothing": lambda: client.zero(0, 0),
        "status of nothing": lambda: client.block_status(0, 0, extents),
        "read with an unknown flag": lambda: client.pread(512, 0, UNKNOWN_FLAG),
        "write with an unknown flag": lambda: client.pwrite(sector, 0, UNKNOWN_FLAG),
        "trim with an unknown flag": lambda: client.trim(4096, 0, UNKNOWN_FLAG),
        "zero with an unknown flag": lambda: client.zero(4096, 0, UNKNOWN_FLAG),
        "flush with an unknown flag": lambda: client.flush(UNKNOWN_FLAG),
        "write that asks for no hole": lambda: client.pwrite(sector, 0, nbd.CMD_FLAG_NO_HOLE),
        "read of more than a request may have": lambda: client.pread(65 * MIB, 0),
        "unaligned read": lambda: client.pread(1, 12345),
        "unaligned write": lambda: client.pwrite(b"\xa5", 12345),
        "unaligned zero": lambda: client.zero(3, 777),
        "unaligned trim": lambda: client.trim(3, 777),
        "write": lambda: client.pwrite(sector, 0),
        "write that is durable": lambda: client.pwrite(sector, 0, nbd.CMD_FLAG_FUA),
        "trim": lambda: client.trim(4096, 0),
        "zero": lambda: client.zero(4096, 0),
        "flush": lambda: client.flush(),
    }


def every_request(uri: str) -> dict[str, str]:
    """Sends each request on the same connection. A read after each shows that the connection still works."""
    client = connected(uri)
    told = {}
    for name, request in requests(client).items():
        told[name] = answer(request)
        if not lives(client):
            told[name] += ", and the connection is gone"
            client = connected(uri)
    client.shutdown()
    return told


def huge_write(uri: str) -> dict[str, str]:
    """Sends a write larger than any server accepts. The server may disconnect, but must serve the next
    client.
    """
    told = answer(lambda: connected(uri).pwrite(bytes(65 * MIB), 0))
    after = answer(lambda: connected(uri).pread(512, 0))
    return {"huge write": told, "read of the next client": after}


def rude_departure(uri: str) -> dict[str, str]:
    """Sends hundreds of requests, and disconnects without reading the answers."""
    client = connected(uri)
    buffers = [nbd.Buffer(64 * KIB) for _ in range(400)]
    for number, buffer in enumerate(buffers):
        client.aio_pread(buffer, number * 4096)
    del client
    return {"read of the next client": answer(lambda: connected(uri).pread(512, 0))}


if __name__ == "__main__":
    cases = {function.__name__: function for function in (every_request, huge_write, rude_departure)}
    print(json.dumps(cases[sys.argv[2]](sys.argv[1])))
