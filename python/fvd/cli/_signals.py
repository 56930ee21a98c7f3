"""Signals that end a command after it has cleaned up."""

from __future__ import annotations

import contextlib
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Not SIGINT, which raises KeyboardInterrupt as always in Python."""


class Terminated(BaseException):
    """A signal ended the command."""

    def __init__(self, number: int) -> None:
        """Store the number of the signal."""
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Convert SIGTERM and SIGHUP to exceptions, so that open files are closed and incomplete ones removed.

    A signal that is ignored, such as SIGHUP under `nohup`, stays ignored.
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
