"""The status line of `fvd serve` on a terminal, and the names of its exports."""

import io
from pathlib import Path

import pytest

from fvd.cli._common import CommandError
from fvd.cli.serve import options
from fvd.cli.serve.line import Line, longest_outage
from fvd.types import PrefetchState, RemoteStatus, RequestCounts, ServerStats

from .test_cli_progress import ticking


def stats(
    clients: int, read: int, written: int, local: int = 0, state: PrefetchState = "running"
) -> ServerStats:
    def count(size: int) -> RequestCounts:
        return {"requests": 1, "bytes": size, "errors": 0}

    return {
        "connections": {"now": clients, "total": clients, "refused": 0, "failed": 0},
        "requests": {"read": count(read), "write": count(written)},
        "in-flight": 0,
        "invalid": 0,
        "polled": 0,
        "exports": {
            "raw": {"image": None, "prefetch": None},
            "disk": {
                "image": {},
                "prefetch": {
                    "state": state,
                    "total": 1 << 30,
                    "local": local,
                    "fetched": 0,
                    "zeros": 0,
                    "read-rate": 0,
                    "write-rate": 0,
                    "pauses": 0,
                    "retries": 0,
                    "reason": None,
                    "error": None,
                },
            },
        },
    }


ANSWERING: RemoteStatus = {
    "requests": 1,
    "bytes": 1,
    "retries": 0,
    "hedges": 0,
    "refreshes": 0,
    "waiting": 0,
    "cache_found": 0,
    "cache_stored": 0,
    "cache_damaged": 0,
    "cache_failures": 0,
    "memory": 1,
    "stores": ["s3://images"],
    "outages": [],
}


def away(seconds: float) -> RemoteStatus:
    """A store that has not answered for so long."""
    reason = "the server answered with status 503"
    return {
        **ANSWERING,
        "outages": [{"store": "s3://images", "seconds": seconds, "reason": reason}],
    }


def test_the_line_shows_clients_rates_and_prefetch() -> None:
    terminal = io.StringIO()
    line = Line(terminal, lambda: 80, ticking(0, 2, 3))
    line.draw(stats(1, 0, 0), ANSWERING)
    line.draw(stats(2, 8 << 20, 1 << 20, local=1 << 28), ANSWERING)
    line.draw(stats(0, 8 << 20, 1 << 20, state="finished"), ANSWERING)
    line.clear()
    assert terminal.getvalue().split("\r\x1b[K")[1:] == [
        "1 client  prefetch 0.0%",
        "2 clients  read 4 MiB/s  write 512 KiB/s  prefetch 25.0%",
        "0 clients  read 0 B/s  write 0 B/s  prefetch 100.0%",
        "",
    ]


def test_the_line_says_which_store_it_waits_for_within_80_columns() -> None:
    terminal = io.StringIO()
    line = Line(terminal, lambda: 80, ticking(0, 1, 2))
    line.draw(stats(1, 0, 0), away(0.4))
    line.draw(stats(1, 0, 0), away(42.9))
    line.draw(stats(1, 0, 0), ANSWERING)
    before, during, after = terminal.getvalue().split("\r\x1b[K")[1:]
    assert before == "1 client  prefetch 0.0%"
    assert during == "1 client  waits for s3://images since 42 s: status 503"
    assert len(during) <= 79
    assert after == "1 client  read 0 B/s  write 0 B/s  prefetch 0.0%"


def test_the_line_names_the_longest_of_several_outages() -> None:
    status = away(5)
    status["outages"].append({"store": "https://x.org", "seconds": 7.0, "reason": "\x1b[2Jno"})
    assert longest_outage(status) == "waits for https://x.org (and 1 more) since 7 s: \\x1b[2Jno"


def test_the_line_fits_any_terminal() -> None:
    for columns in (0, 1, 10, 200):
        terminal = io.StringIO()
        Line(terminal, lambda columns=columns: columns, ticking(0)).draw(  # type: ignore[misc]
            stats(1, 0, 0), away(42)
        )
        assert len(terminal.getvalue()) <= len("\r\x1b[K") + max(columns - 1, 0)


def disks(*words: str) -> list[tuple[str, str]]:
    return options.settings(options.parser().parse(list(words), 1, 9, "?"))["disks"]


def test_names_of_exports_come_from_the_command_line(tmp_path: Path) -> None:
    assert disks("disk.fvd") == [("", "disk.fvd")]
    assert disks("-x", "name", "disk.fvd") == [("name", "disk.fvd")]
    assert disks("a=one", "b=two=2") == [("a", "one"), ("b", "two=2")]
    assert disks("./a=b") == [("", "./a=b")]
    odd = tmp_path / "a=b"
    odd.touch()
    assert disks(str(odd)) == [("", str(odd))]
    with pytest.raises(CommandError):
        disks("a=one", "two")
