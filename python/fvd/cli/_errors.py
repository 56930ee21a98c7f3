"""Converts exceptions to lines on stderr and exit statuses."""

from __future__ import annotations

import errno
import os
import sys

from fvd import FvdError
from fvd._config import ConfigError
from fvd.cli import _output
from fvd.cli._arguments import UsageError
from fvd.cli._common import CommandError
from fvd.cli._signals import Terminated
from fvd.options import OptionError

STATUS_INTERRUPTED = 128 + 2
"""The status that a shell reports for a program that SIGINT has ended."""
STATUS_BROKEN_PIPE = 128 + 13
"""The status that a shell reports for a program that SIGPIPE has ended."""


def explain(error: BaseException, failed: int) -> tuple[str, int]:
    """Return the message about `error` (empty for none) and the exit status; `failed` is the usual status."""
    if isinstance(error, KeyboardInterrupt):
        return "", STATUS_INTERRUPTED
    if isinstance(error, Terminated):
        # The status that a shell reports for a program that the signal has ended.
        return "", 128 + error.number
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return "", STATUS_BROKEN_PIPE
    if isinstance(error, UsageError):
        program = f"fvd {error.command}".rstrip()
        return f"{error.prefix}: {error}\nTry '{program} --help' for more info", failed
    if isinstance(error, FvdError):
        # Always one line, even if file names contain line breaks.
        return f"fvd: {_output.printable(fvd_error_text(error))}", failed
    # The core raises a plain ValueError for misuse. Its subclasses, except those listed, are bugs and not
    # messages for the user.
    if type(error) is ValueError or isinstance(error, CommandError | ConfigError | OptionError):
        return f"fvd: {_output.printable(str(error))}", failed
    if isinstance(error, OSError):
        where = "the output" if error.filename is None else f"'{os.fsdecode(error.filename)}'"
        return f"fvd: Could not write {_output.printable(where)}: {error.strerror or error}", failed
    if isinstance(error, MemoryError):
        return "fvd: Out of memory", failed
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"fvd: internal error: {what} (a defect of fvd: please report it with the output of the same command "
        "under FVD_DEBUG=1)",
        failed,
    )


def fvd_error_text(error: FvdError) -> str:
    """Return `Could not open 'x': reason`, with the verb of the operation that failed."""
    reason = _in_words_of_the_command_line(error)
    if error.filename is None:
        return reason
    operation = getattr(error, "op", None) or "open"
    return f"Could not {operation} '{os.fsdecode(error.filename)}': {reason}"


def _in_words_of_the_command_line(error: FvdError) -> str:
    """Return the reason, with advice about the command line in place of advice about the Python API."""
    reason = error.strerror or str(error)
    # Errors that the core did not make have no such attribute.
    directory: str | None = getattr(error, "needs_trust", None)
    if directory is None:
        return reason
    import shlex

    return reason.replace(f"trust={[directory]!r} allows it", f"--trust {shlex.quote(directory)} allows it")


def discard_unwritable_stdout(error: BaseException) -> None:
    """After a failed write to stdout, prevent the interpreter from trying again when it exits."""
    if not isinstance(error, OSError) or isinstance(error, FvdError) or sys.stdout is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def say(text: str, error: BaseException, status: int) -> None:
    """Write `text` about `error` to stderr, if there is any text."""
    if not text:
        return
    facts = None
    if _output.are_errors_json():
        from fvd.cli import _errors_json

        facts = _errors_json.facts(error, status)
    _output.complain(text, facts)
