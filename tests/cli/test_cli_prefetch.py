"""The progress of `fvd prefetch`, with a fake clock and terminal."""

import io
import json

from fvd.cli._prefetch_progress import Bar, Lines
from fvd.cli.prefetch import summary
from fvd.types import PrefetchState, PrefetchStatus

from .test_cli_progress import ticking


def status(local: int, state: PrefetchState = "running", pauses: int = 0) -> PrefetchStatus:
    return {
        "state": state,
        "total": 4 << 30,
        "local": local,
        "fetched": local,
        "zeros": 0,
        "read-rate": 512 << 20,
        "write-rate": 512 << 20,
        "pauses": pauses,
        "retries": 0,
        "reason": None,
        "error": None,
    }


def test_the_bar_shows_percent_rate_remaining_time_and_pauses() -> None:
    terminal = io.StringIO()
    bar = Bar(terminal, lambda: 80, ticking(0, 1, 1, 2, 2))
    bar.update(status(0))
    bar.update(status(1 << 30, pauses=3))
    shown = terminal.getvalue().split("\r\x1b[K")[-1]
    assert " 25.0% 512 MiB/s  ETA 0:06  3 pauses" in shown
    assert "=>" in shown


def test_the_bar_names_what_it_waits_for_and_fits_any_terminal() -> None:
    for columns in (5, 30, 80, 200):
        terminal = io.StringIO()
        bar = Bar(terminal, lambda columns=columns: columns, ticking(0, 1))  # type: ignore[misc]
        bar.update(status(1 << 30, "throttled"))
        shown = terminal.getvalue().split("\r\x1b[K")[-1]
        assert len(shown) < columns
        if columns >= 80:
            assert shown.endswith("[pause: contention]")


def test_json_lines_come_at_intervals_and_with_the_end() -> None:
    stream = io.StringIO()
    lines = Lines(stream, ticking(0, 0, 0.1, 0.1, 0.3, 0.3, 0.31))
    for local in (0, 1 << 30, 2 << 30):
        lines.update(status(local))
    lines.update(status(4 << 30, "finished"))
    shown = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [it["percent"] for it in shown] == [0, 50, 100]
    assert shown[-1]["state"] == "finished"


def test_the_summary_tells_zeros_from_what_was_fetched() -> None:
    done = status(1 << 20, "finished")
    assert summary(done, 2).startswith("Fetched 1 MiB in 2.0 s (512 KiB/s); every block is local now")
    done["zeros"] = 3 << 20
    assert summary(done, 2).startswith(
        "Fetched 1 MiB in 2.0 s (512 KiB/s) and passed over 3 MiB of zeros; every"
    )
