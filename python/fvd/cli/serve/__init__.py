"""`fvd serve`."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from fvd import _fvd as _core
from fvd._serve import open_door_warning
from fvd.cli import _common, _log, _output
from fvd.cli.serve import line as _line
from fvd.cli.serve import options as _options
from fvd.cli.serve.daemon import Daemon, PidFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given

EXPECTED = "Expecting one image file name at least"
PATIENCE_S = 1.0
"""Seconds to wait for a disk that is in use: the kernel may release the locks of a killed server late."""
parser = _options.parser
STATUS_KILLED = 128 + 15
"""The status that a shell reports for a program that SIGTERM has ended."""


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = _options.parser().parse(arguments, 1, sys.maxsize, EXPECTED)
    settings = _options.settings(given)
    _common.wants_json(given, "serve")
    if given.trace is not None:
        _output.complain("fvd: note: --trace: there are no trace points; --log-level tells what is done")
    if not given.fork:
        return _serve(given, settings, None)
    # Fork before any thread is started.
    daemon = Daemon.fork()
    return daemon.wait() if daemon.is_parent else _serve(given, settings, daemon)


def _serve(given: Given, settings: _options.Settings, daemon: Daemon | None) -> int:
    """Serve until the server ends."""
    import signal

    # Until here, SIGINT raised KeyboardInterrupt. From here on, the server waits for the signal itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _log.start(given.log_level, given.log_format)
    try:
        _serve_logged(given, settings, daemon)
    finally:
        _log.finish()
    return 0


def _serve_logged(given: Given, settings: _options.Settings, daemon: Daemon | None) -> None:
    is_logged = _log.is_requested(given.log_level)
    server = _core.serve(**settings, patience=PATIENCE_S)
    try:
        with PidFile(given.pid_file):
            announce = _announce_to_programs if _common.wants_json(given, "serve") else _announce
            announce(server, settings)
            if daemon is not None:
                daemon.ready(keeps_stderr=is_logged or given.verbose)
            _watch(server, is_quiet=is_logged)
            _stop(server)
    except BaseException:
        # The first error is the one to report.
        with contextlib.suppress(_core.FvdError):
            _stop(server)
        raise


def _stop(server: _core.Server) -> None:
    """Close all disks. A second signal ends the process at once, without waiting or cleaning up."""
    try:
        server.stop()
    except _core.FvdError as error:
        if error.errno == errno.EINTR:
            os._exit(STATUS_KILLED)
        raise


def _announce_to_programs(server: _core.Server, settings: _options.Settings) -> None:
    """Print one line of JSON, once clients can connect."""
    import json

    exports = [{"name": name, "file": path} for name, path in settings["disks"]]
    ready = {
        "state": "ready",
        "pid": os.getpid(),
        "exports": exports,
        "read-only": settings["read_only"],
        "uris": server.uris,
        "metrics": server.metrics_url,
        "warning": open_door_warning(server.open_doors) or None,
    }
    _output.write(json.dumps(ready) + "\n")
    if sys.stdout is not None:
        sys.stdout.flush()


def _announce(server: _core.Server, settings: _options.Settings) -> None:
    """Print what is served, and where. Clients can connect once the last line is printed."""
    warning = open_door_warning(server.open_doors)
    if warning:
        _output.complain(f"fvd: warning: {warning}")
    if settings["sockets"]:
        # The parent process made the sockets and knows them, and stdout may belong to it.
        return
    mode = " (read-only)" if settings["read_only"] else ""
    for name, path in settings["disks"]:
        named = f" as '{_output.printable(name)}'" if name else ""
        _output.write(f"Serving {_output.printable(path)}{named}{mode}\n")
    if server.metrics_url is not None:
        _output.write(f"Metrics: {server.metrics_url}\n")
    for uri in server.uris:
        _output.write(f"{uri}\n")
    if sys.stdout is not None:
        sys.stdout.flush()


def _watch(server: _core.Server, *, is_quiet: bool) -> None:
    """Wait for the end of the server, and show its status on a terminal meanwhile, unless `is_quiet`."""
    line = None if is_quiet else _line.line()
    if line is None:
        server.wait()
        return
    try:
        while server.wait(_line.INTERVAL_S) == "timeout":
            line.draw(server.stats(), _core.remote_status())
    finally:
        line.clear()
