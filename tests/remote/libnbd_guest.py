"""Not a test: a guest that does what it is told. For /usr/bin/python3 and the libnbd of the system.

libnbd_guest.py URI   reads commands from standard input, one JSON list a line, and prints the answers as JSON

["pread", OFFSET, COUNT], ["pwrite", OFFSET, TEXT], ["flush"]; ["begin", OFFSET, COUNT] begins a read,
["poll"] says whether it is done, ["end"] waits for it. The answer to a read is hexadecimal, that to an error
its name.
"""

import importlib
import json
import sys
from typing import Any

nbd: Any = importlib.import_module("nbd")


class Guest:
    """One connection, and one read that may be under way."""

    def __init__(self, uri: str) -> None:
        self.client = nbd.NBD()
        self.client.connect_uri(uri)
        self.buffer: Any = None
        self.cookie = 0

    def pread(self, offset: int, count: int) -> str:
        found: bytes = self.client.pread(count, offset)
        return found.hex()

    def pwrite(self, offset: int, text: str) -> str:
        self.client.pwrite(text.encode(), offset)
        return "ok"

    def flush(self) -> str:
        self.client.flush()
        return "ok"

    def begin(self, offset: int, count: int) -> str:
        self.buffer = nbd.Buffer(count)
        self.cookie = self.client.aio_pread(self.buffer, offset)
        return "ok"

    def poll(self) -> bool:
        self.client.poll(0)
        return bool(self.client.aio_peek_command_completed() == self.cookie)

    def end(self) -> str:
        while not self.client.aio_command_completed(self.cookie):
            self.client.poll(-1)
        found: bytearray = self.buffer.to_bytearray()
        return found.hex()


guest = Guest(sys.argv[1])
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = getattr(guest, name)(*arguments)
    except nbd.Error as error:
        answer = error.errno
    print(json.dumps(answer), flush=True)
