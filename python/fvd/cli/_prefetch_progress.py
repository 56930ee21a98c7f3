"""Progress of prefetch: a bar that also shows pauses, qemu-img's percentages, or JSON lines."""

from __future__ import annotations

import sys
import time

from fvd.cli import _progress
from fvd.cli._output import Screen, human_size
from fvd.cli._progress import JSON_INTERVAL_S, REDRAW_INTERVAL_S, Percentages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TextIO

    from fvd.cli._arguments import Given
    from fvd.types import PrefetchStatus

options = _progress.progress_options

STATES = {
    "waiting": "waiting",
    "yielding": "after you",
    "paused": "paused",
    "throttled": "pause: contention",
    "backing-off": "the base fails, trying again",
    "base-away": "the base does not answer",
}
"""Texts for the states in which prefetch does not read."""
FINAL = ("finished", "failed", "stopped")


def display(arguments: Given, command: str) -> Display:
    """Return the display that the options select."""
    kind = _progress.kind(arguments, command)
    if arguments.quiet or kind == "none" or sys.stderr is None:
        return Display()
    if kind == "json":
        return Lines(sys.stderr)
    if sys.stderr.isatty():
        return Bar(sys.stderr, lambda: _progress.columns(sys.stderr))
    return Plain(sys.stdout if sys.stdout is not None else sys.stderr)


class Display:
    """Shows nothing. A context manager; pass `callback` to `Image.prefetch`."""

    callback: Callable[[PrefetchStatus], object] | None = None

    def __enter__(self) -> Display:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the end."""


class _Timed(Display):
    """Shows the status at most once in an interval, and always the last one."""

    def __init__(self, stream: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        self._screen = Screen(stream)
        self._interval_s = interval_s
        self._clock = clock
        self._started = self._next = clock()
        self._first_local: int | None = None
        self.callback = self.update

    def update(self, status: PrefetchStatus) -> None:
        if self._first_local is None:
            self._first_local = status["local"]
        now = self._clock()
        if now >= self._next or status["state"] in FINAL:
            self._next = now + self._interval_s
            self._show(status)

    def _show(self, status: PrefetchStatus) -> None:
        raise NotImplementedError

    def _remaining_s(self, status: PrefetchStatus) -> float | None:
        """Seconds at the average rate since the start, including pauses."""
        elapsed = self._clock() - self._started
        gained = status["local"] - (self._first_local or 0)
        if elapsed <= 0 or gained <= 0:
            return None
        return (status["total"] - status["local"]) * elapsed / gained


class Bar(_Timed):
    """A bar on a terminal, with percent, rate, remaining time and the reason of a pause."""

    def __init__(
        self, stream: TextIO, columns: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream`, whose current width is `columns()`."""
        super().__init__(stream, REDRAW_INTERVAL_S, clock)
        self._columns = columns

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._screen.show("\n")

    def _show(self, status: PrefetchStatus) -> None:
        part = _part(status)
        numbers = f" {100 * part:5.1f}% {human_size(status['read-rate'])}/s"
        numbers += f"  ETA {_progress.duration(self._remaining_s(status))}"
        if status["state"] == "base-away":
            numbers = f" {100 * part:5.1f}%  [{status['reason'] or STATES['base-away']}]"
        elif status["state"] in STATES:
            numbers += f"  [{STATES[status['state']]}]"
        elif status["pauses"]:
            numbers += f"  {status['pauses']} pauses"
        width = self._columns() - 1
        inner = width - len(numbers) - 2
        bar = _progress.bar(inner, part) if inner >= 10 else ""
        self._screen.show(f"\r\x1b[K{(bar + numbers)[:width]}")


class Plain(Display):
    """The percentages of `qemu-img -p`."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._percentages = Percentages(stream)
        self.callback = self.update

    def update(self, status: PrefetchStatus) -> None:
        """Show whole percentages only."""
        self._percentages.update(status["local"], status["total"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line."""
        self._percentages.finish(complete=error is None)


class Lines(_Timed):
    """One JSON object on each line: the status, with percent and remaining time."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`."""
        super().__init__(stream, JSON_INTERVAL_S, clock)

    def _show(self, status: PrefetchStatus) -> None:
        import json

        remaining_s = self._remaining_s(status)
        report = {
            **status,
            "percent": round(100 * _part(status), 2),
            "eta-seconds": None if remaining_s is None else round(remaining_s, 1),
        }
        self._screen.show(json.dumps(report) + "\n")


def _part(status: PrefetchStatus) -> float:
    if status["state"] == "finished" or not status["total"]:
        return 1.0
    return min(1.0, status["local"] / status["total"])
