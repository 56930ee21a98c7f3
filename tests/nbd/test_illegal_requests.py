"""Requests that violate the NBD protocol: each gets its error, and none affects the disk or the next
request.
"""

import json
from pathlib import Path

import pytest

from support import run
from support.serving import Disk, Server

CLIENT = Path(__file__).parent / "libnbd_client.py"
ANSWERED = ("ok", "EINVAL")
# For a write beyond the end the protocol specifies ENOSPC, for other requests EINVAL.
ALLOWED: dict[str, tuple[str, ...]] = {
    "read": ("EINVAL",),
    "write": ("ENOSPC", "EINVAL"),
    "trim": ("EINVAL", "ENOSPC"),
    "zero": ("ENOSPC", "EINVAL"),
    "cache": ("EINVAL", "ENOSPC"),
    "status": ("EINVAL",),
}


def asked(server: Server, case: str) -> dict[str, str]:
    told: dict[str, str] = json.loads(run("/usr/bin/python3", "-I", CLIENT, server.uri, case).stdout)
    return told


def test_each_request_gets_the_answer_of_the_protocol(disk: Disk) -> None:
    with disk.serve() as server:
        told = asked(server, "every_request")
    wrong = {name: result for name, result in told.items() if result not in allowed(name)}
    assert not wrong
    # All accepted requests change only the first sectors.
    now = disk.read()
    assert now[16384:] == disk.content[16384:]
    assert now[4096:12345] == disk.content[4096:12345]
    assert now[12345] == 0xA5


def allowed(name: str) -> tuple[str, ...]:
    kind = name.split()[0]
    if any(word in name for word in ("the end", "overflows", "to say")) and "nothing" not in name:
        return ALLOWED[kind]
    if "of nothing" in name:
        # The protocol says "the server behavior is unspecified", but there must be an answer.
        return ANSWERED
    if "flag" in name or "hole" in name or "more than" in name:
        return ("EINVAL", "EOVERFLOW", "ERANGE")
    return ("ok",)


def test_a_read_only_export_permits_no_change(overlay: Disk) -> None:
    with overlay.serve("-r") as server:
        told = asked(server, "every_request")
    for name in ("write", "write that is durable", "trim", "zero", "unaligned write", "unaligned zero"):
        assert told[name] == "EPERM", name
    assert told["flush"] in ANSWERED
    assert told["unaligned read"] == "ok"
    assert not [result for result in told.values() if "gone" in result]
    assert overlay.read() == overlay.content


@pytest.mark.parametrize("case", ["huge_write", "rude_departure"])
def test_a_disconnected_client_affects_no_other(disk: Disk, case: str) -> None:
    with disk.serve() as server:
        told = asked(server, case)
        assert told.get("huge write") != "ok"
        assert told["read of the next client"] == "ok"
    assert disk.read() == disk.content
