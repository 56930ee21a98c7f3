"""Progress of a long command: a bar on a terminal, otherwise qemu-img's percentages or JSON lines."""

from __future__ import annotations

import os
import sys
import time

from fvd.cli._arguments import Option, Parser, UsageError
from fvd.cli._output import Screen, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Protocol, TextIO

    from fvd.cli._arguments import Given

    class Display(Protocol):
        """An object that shows progress."""

        def update(self, done: int, total: int) -> None:
            """Show that `done` of `total` bytes are done. A `total` of 0 is unknown."""

        def finish(self, *, complete: bool) -> None:
            """Stop showing; `complete` is False after a failure."""


REDRAW_INTERVAL_S = 0.1
JSON_INTERVAL_S = 0.25
PERCENT_STEP = 1.0


def progress_options(parser: Parser) -> None:
    """Add `-p` and `--progress`."""
    parser.add(Option("progress", "a value after =", constant="bar"), "-p", "--progress", default="none")
    parser.describe(
        "-p, --progress[=bar|json|none]",
        "show how far it is: a bar on a terminal, percentages on stdout otherwise;\n"
        "json: one object a line on stderr",
    )


def kind(arguments: Given, command: str) -> str:
    """Return the kind that the options select: bar, json or none."""
    chosen = str(arguments.progress)
    if chosen not in ("bar", "json", "none"):
        raise UsageError(f"--progress expects 'bar', 'json' or 'none' not '{chosen}'", command)
    return chosen


class Progress:
    """Progress of one run, as the options select it; a context manager.

    Pass `callback` to the core. It is None if nothing is shown.
    """

    def __init__(self, arguments: Given, command: str, *, stdout_is_data: bool = False) -> None:
        """Choose the display. If the disk goes to stdout, nothing else is written there."""
        chosen = kind(arguments, command)
        self._display = None if arguments.quiet else _display(chosen, stdout_is_data)
        self.callback: Callable[[int, int], object] | None = self._display.update if self._display else None

    def __enter__(self) -> Progress:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the end."""
        if self._display:
            self._display.finish(complete=error is None)


def _display(kind: str, stdout_is_data: bool) -> Display | None:
    if kind == "none" or sys.stderr is None:
        return None
    if kind == "json":
        return JsonLines(sys.stderr)
    stdout_is_terminal = sys.stdout is not None and sys.stdout.isatty()
    if sys.stderr.isatty() and (stdout_is_data or stdout_is_terminal):
        return Bar(sys.stderr, lambda: columns(sys.stderr))
    if stdout_is_data or sys.stdout is None:
        return Percentages(sys.stderr)
    return Percentages(sys.stdout)


def columns(stream: TextIO) -> int:
    """Return the width of a terminal in characters."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Percentages:
    """The output of `qemu-img -p`, for programs that parse it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._screen = Screen(stream)
        self._shown = -PERCENT_STEP

    def update(self, done: int, total: int) -> None:
        """Show whole percentages only."""
        percent = 100 * done / total if total else 0.0
        if percent - self._shown >= PERCENT_STEP:
            self._show(percent)

    def finish(self, *, complete: bool) -> None:
        """End the line."""
        if complete:
            self._show(100.0)
        self._screen.show("\n")

    def _show(self, percent: float) -> None:
        self._shown = percent
        self._screen.show(f"    ({percent:3.2f}/100%)\r")


class _Timed:
    """A display that is redrawn at most once in an interval."""

    def __init__(self, stream: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        self._screen = Screen(stream)
        self._interval_s = interval_s
        self._clock = clock
        self._started = clock()
        self._next = self._started
        self._last = (0, 0)

    def update(self, done: int, total: int) -> None:
        self._last = (done, total)
        now = self._clock()
        if now >= self._next:
            self._next = now + self._interval_s
            self._show(done, total)

    def _show(self, done: int, total: int) -> None:
        raise NotImplementedError

    def _rate(self, done: int) -> float:
        """Bytes per second since the start."""
        elapsed = self._clock() - self._started
        return done / elapsed if elapsed > 0 else 0.0

    def _eta_s(self, done: int, total: int) -> float | None:
        rate = self._rate(done)
        return (total - done) / rate if rate and total else None


class Bar(_Timed):
    """A bar with rate and remaining time, on a terminal."""

    def __init__(
        self, stream: TextIO, columns: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream`, whose current width is `columns()`."""
        super().__init__(stream, REDRAW_INTERVAL_S, clock)
        self._columns = columns

    def finish(self, *, complete: bool) -> None:
        """Leave the last state on the screen."""
        done, total = self._last
        self._show(total if complete and total else done, total)
        self._screen.show("\n")

    def _show(self, done: int, total: int) -> None:
        numbers = f" {human_size(int(self._rate(done)))}/s"
        if total:
            eta_s = self._eta_s(done, total)
            numbers = f" {100 * done / total:5.1f}%{numbers}  ETA {duration(eta_s)}"
        else:
            numbers = f" {human_size(done)}{numbers}"
        width = self._columns() - 1
        inner = width - len(numbers) - 2
        drawn = bar(inner, done / total) if total and inner >= 10 else ""
        self._screen.show(f"\r\x1b[K{(drawn + numbers)[:width]}")


def bar(inner: int, part: float) -> str:
    """Return a bar of `inner` characters in brackets, filled up to `part` (0 to 1)."""
    filled = min(inner, int(inner * part))
    head = ">" if 0 < filled < inner else ""
    return f"[{('=' * (filled - len(head)) + head):<{inner}}]"


def duration(seconds: float | None) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class JsonLines(_Timed):
    """One JSON object on each line: the first at the start, the last at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`."""
        super().__init__(stream, JSON_INTERVAL_S, clock)

    def finish(self, *, complete: bool) -> None:
        """Write the last line, which says whether the run is complete."""
        done, total = self._last
        self._line(total if complete and total else done, total, state="done" if complete else "failed")

    def _show(self, done: int, total: int) -> None:
        self._line(done, total, state="running")

    def _line(self, done: int, total: int, *, state: str) -> None:
        import json

        eta_s = self._eta_s(done, total)
        report = {
            "state": state,
            "done": done,
            "total": total or None,
            "percent": round(100 * done / total, 2) if total else None,
            "bytes-per-second": round(self._rate(done)),
            "eta-seconds": None if eta_s is None else round(eta_s, 1),
        }
        self._screen.show(json.dumps(report) + "\n")
