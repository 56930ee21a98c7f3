"""`fvd serve`."""

from __future__ import annotations

import sys

from fvd import _fvd as _core
from fvd.cli import _output, _serve_options
from fvd.cli._daemon import Daemon, PidFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

EXPECTED = "Expecting one image file name at least"
LOOK_S = 0.5
"""Between two looks at what the server does."""


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = _serve_options.parser().parse(arguments, 1, sys.maxsize, EXPECTED)
    settings = _serve_options.settings(given)
    if not given.fork:
        return _serve(given, settings, None)
    # Before there is any thread.
    daemon = Daemon.fork()
    return daemon.wait() if daemon.is_parent else _serve(given, settings, daemon)


def _serve(given: argparse.Namespace, settings: _serve_options.Settings, daemon: Daemon | None) -> int:
    """Serve until the end."""
    import signal

    # Up to here it raised KeyboardInterrupt; the server waits for it on its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = _core.serve(**settings)
    try:
        with PidFile(given.pid_file):
            _announce(server, settings)
            if daemon is not None:
                daemon.ready()
            _watch(server)
            _stop(server)
    except BaseException:
        server.shut_down()
        server.stop()
        raise
    return 0


def _announce(server: _core.Server, settings: _serve_options.Settings) -> None:
    """Say what is served, and where; whoever reads this can connect."""
    mode = " (read-only)" if settings["read_only"] else ""
    for name, path in settings["disks"]:
        named = f" as '{name}'" if name else ""
        _output.write(f"Serving {_output.printable(path)}{named}{mode}\n")
    for uri in server.uris:
        _output.write(f"{uri}\n")
    if sys.stdout is not None:
        sys.stdout.flush()


def _watch(server: _core.Server) -> None:
    """Wait for the end."""
    server.wait()


def _stop(server: _core.Server) -> None:
    """Close the disks."""
    server.stop()
