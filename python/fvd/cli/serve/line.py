"""The status line of a server on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time

from fvd.cli import _progress
from fvd.cli._output import human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from fvd.types import PrefetchStatus, RemoteStatus, ServerStats

INTERVAL_S = 1.0
"""Time between two updates."""
NOTICED_S = 1.0
"""A shorter outage is not shown: a request that is sent again at once is nothing to look at."""


def line() -> Line | None:
    """Return the line, or None if stderr is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    return Line(sys.stderr, lambda: _progress.columns(sys.stderr))


def longest_outage(remote: RemoteStatus) -> str:
    """Return which store is waited for, since when and why; empty if all of them answer."""
    lasting = [outage for outage in remote["outages"] if outage["seconds"] >= NOTICED_S]
    if not lasting:
        return ""
    longest = max(lasting, key=lambda outage: outage["seconds"])
    others = f" (and {len(lasting) - 1} more)" if len(lasting) > 1 else ""
    # The line is short.
    reason = longest["reason"].removeprefix("the server answered with ")
    return printable(f"waits for {longest['store']}{others} since {int(longest['seconds'])} s: {reason}")


class Line:
    """Clients, rates since the last update, and the progress of prefetch."""

    def __init__(
        self, stream: TextIO, columns: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream`, whose current width is `columns()`."""
        self._stream = stream
        self._columns = columns
        self._clock = clock
        self._before: tuple[float, int, int] | None = None

    def draw(self, stats: ServerStats, remote: RemoteStatus) -> None:
        """Show the current state."""
        text = self._text(stats, remote)[: max(self._columns() - 1, 0)]
        self._write(f"\r\x1b[K{text}")

    def clear(self) -> None:
        """Remove the line."""
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        # A terminal may be closed, which must not stop the server.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()

    def _text(self, stats: ServerStats, remote: RemoteStatus) -> str:
        clients = stats["connections"]["now"]
        parts = [f"{clients} client" + ("" if clients == 1 else "s")]
        now = (self._clock(), stats["requests"]["read"]["bytes"], stats["requests"]["write"]["bytes"])
        before, self._before = self._before or now, now
        elapsed = now[0] - before[0]
        outage = longest_outage(remote)
        if outage:
            # Rates do not matter now, and the line is short.
            return "  ".join([*parts, outage])
        if elapsed > 0:
            parts.append(f"read {human_size(int((now[1] - before[1]) / elapsed))}/s")
            parts.append(f"write {human_size(int((now[2] - before[2]) / elapsed))}/s")
        parts += self._prefetch([export["prefetch"] for export in stats["exports"].values()])
        return "  ".join(parts)

    @staticmethod
    def _prefetch(all: list[PrefetchStatus | None]) -> list[str]:
        """Return the progress of all images together, once one of them has started."""
        begun = [status for status in all if status is not None and status["total"]]
        if not begun:
            return []
        total = sum(status["total"] for status in begun)
        local = sum(s["total"] if s["state"] == "finished" else s["local"] for s in begun)
        return [f"prefetch {100 * min(1.0, local / total):.1f}%"]
