"""Socket activation, as systemd and libnbd do it: sockets that the parent process has opened."""

from __future__ import annotations

import os

from fvd.cli._common import CommandError

FIRST = 3
"""The first descriptor that is passed."""
MOST = 1024
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited() -> list[int]:
    """Return the descriptors that were passed; an empty list if there are none.

    Unsets the environment variables that announce them, so that child processes do not use them.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if count is None or process != str(os.getpid()):
        return []
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    if not count.isascii() or not count.isdigit() or int(count) > MOST:
        raise CommandError(f"LISTEN_FDS={count} is no number of sockets from 0 to {MOST}")
    return list(range(FIRST, FIRST + int(count)))
