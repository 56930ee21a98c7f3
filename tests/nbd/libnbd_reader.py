"""Not a test: one read. For /usr/bin/python3 and the libnbd of the system.

libnbd_reader.py URI OFFSET LENGTH [df]   prints the pieces of the answer as JSON
"""

import importlib
import json
import sys
from typing import Any

# For type checkers, `nbd` would be the name of this folder.
nbd: Any = importlib.import_module("nbd")


def main(uri: str, offset: str, length: str, *flags: str) -> None:
    client = nbd.NBD()
    client.connect_uri(uri)
    said: list[tuple[str, int, int]] = []

    def piece(data: Any, at: int, status: int, _: object) -> int:
        said.append(({nbd.READ_DATA: "data", nbd.READ_HOLE: "hole"}[status], at, len(data)))
        return 0

    content = client.pread_structured(int(length), int(offset), piece, nbd.CMD_FLAG_DF if flags else 0)
    assert len(content) == int(length)
    for kind, at, count in said:
        part = bytes(content[at - int(offset) : at - int(offset) + count])
        assert (kind == "hole" or bool(flags)) == (part == bytes(count)), (kind, at)
    print(json.dumps(said))


main(*sys.argv[1:])
