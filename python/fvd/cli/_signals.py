"""Signals that end a command which has something to put in order first."""

from __future__ import annotations

import contextlib
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""SIGINT is KeyboardInterrupt, as everywhere in Python."""


class Terminated(BaseException):
    """A signal came that ends the command."""

    def __init__(self, number: int) -> None:
        """Note which."""
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make exceptions of SIGTERM and SIGHUP, so that what is open is closed, and what is half made removed.

    A signal that is ignored, as SIGHUP is under `nohup`, stays ignored.
    """
    before = {
        number: signal.signal(number, _raise)
        for number in ENDING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _frame: object) -> None:
    raise Terminated(number)
