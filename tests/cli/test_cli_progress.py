"""The progress bar, with a fake clock and terminal."""

import io
import json
from collections.abc import Callable, Iterator

from fvd.cli._progress import Bar, JsonLines


def ticking(*times: float) -> Callable[[], float]:
    """Return a clock that shows `times` in order, and stays at the last one."""
    pending: Iterator[float] = iter(times)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now = next(pending, now)
        return now

    return clock


def test_a_bar_shows_all_numbers_within_the_terminal_width() -> None:
    for columns in (10, 40, 80, 200):
        terminal = io.StringIO()
        bar = Bar(terminal, lambda columns=columns: columns, ticking(0, 2))  # type: ignore[misc]
        bar.update(1 << 30, 4 << 30)
        bar.finish(complete=False)
        shown = terminal.getvalue().split("\r\x1b[K")[-1]
        assert shown.endswith("\n")
        assert len(shown) <= columns
        if columns >= 80:
            assert " 25.0% 512 MiB/s  ETA 0:06" in shown
            assert "=>" in shown


def test_a_complete_bar_ends_at_100_percent() -> None:
    terminal = io.StringIO()
    bar = Bar(terminal, lambda: 80, ticking(0, 1))
    bar.update(0, 100)
    bar.finish(complete=True)
    assert "100.0%" in terminal.getvalue().split("\r")[-1]


def test_a_stream_of_unknown_length_shows_what_is_done() -> None:
    terminal = io.StringIO()
    bar = Bar(terminal, lambda: 80, ticking(0, 1))
    bar.update(1 << 20, 0)
    assert " 1 MiB 1 MiB/s" in terminal.getvalue()


def test_a_bar_is_redrawn_at_a_limited_rate() -> None:
    terminal = io.StringIO()
    bar = Bar(terminal, lambda: 80, ticking(0, 0.01))
    for done in range(1000):
        bar.update(done, 1000)
    assert terminal.getvalue().count("\r") == 1


def test_json_lines_of_a_failure_say_so() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream, ticking(0, 1))
    lines.update(50, 0)
    lines.finish(complete=False)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert last == {
        "state": "failed",
        "done": 50,
        "total": None,
        "percent": None,
        "bytes-per-second": 50,
        "eta-seconds": None,
    }
