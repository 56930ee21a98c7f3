"""Signals that end a command after it has cleaned up."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType, TracebackType
else:
    # `signal` wraps this module in enumerations, and importing `enum` takes longer than `fvd create`.
    import _signal

ENDING = (_signal.SIGTERM, _signal.SIGHUP)
"""Not SIGINT, which raises KeyboardInterrupt as always in Python."""


class Terminated(BaseException):
    """A signal ended the command."""

    def __init__(self, number: int) -> None:
        """Store the number of the signal."""
        super().__init__(number)
        self.number = number


class Terminable:
    """Converts SIGTERM and SIGHUP to exceptions, so that open files are closed and incomplete ones removed.

    A context manager. A signal that is ignored, such as SIGHUP under `nohup`, stays ignored.
    """

    def __enter__(self) -> None:
        """Install the handlers."""
        self._before = {
            number: _signal.signal(number, _raise)
            for number in ENDING
            if _signal.getsignal(number) != _signal.SIG_IGN
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore those from before."""
        for number, handler in self._before.items():
            _signal.signal(number, handler)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)
