"""Sockets that whoever started the program has opened for it, as systemd and libnbd do."""

from __future__ import annotations

import os

from fvd.cli._common import CommandError

FIRST = 3
"""The first descriptor that is handed over."""
MOST = 1024
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited() -> list[int]:
    """Return the descriptors; none if the program was started in another way.

    The variables that announce them are unset, so that no child takes them for its own.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if count is None or process != str(os.getpid()):
        return []
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    if not count.isascii() or not count.isdigit() or int(count) > MOST:
        raise CommandError(f"LISTEN_FDS={count} is no number of sockets from 0 to {MOST}")
    return list(range(FIRST, FIRST + int(count)))
