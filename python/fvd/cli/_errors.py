"""Exceptions as lines on stderr and exit statuses."""

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
"""What a shell reports of a program that SIGINT ended."""
STATUS_BROKEN_PIPE = 128 + 13
"""What a shell reports of a program that SIGPIPE ended."""


def explain(error: BaseException, failed: int) -> tuple[str, int]:
    """Return what to say about `error`, empty for nothing, and the exit status; `failed` is the usual one."""
    if isinstance(error, KeyboardInterrupt):
        return "", STATUS_INTERRUPTED
    if isinstance(error, Terminated):
        # What a shell reports of a program that the signal ended.
        return "", 128 + error.number
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return "", STATUS_BROKEN_PIPE
    if isinstance(error, UsageError):
        program = f"fvd {error.command}".rstrip()
        return f"{error.prefix}: {error}\nTry '{program} --help' for more info", failed
    if isinstance(error, FvdError):
        # One line, whatever the names in it are.
        return f"fvd: {_output.printable(fvd_error_text(error))}", failed
    # A plain ValueError is how the core refuses misuse; other subclasses are nobody's message to a user.
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
    """Return why, where the exception says what helps in the words of Python."""
    reason = error.strerror or str(error)
    # One that was not made by the core has no such attribute.
    directory: str | None = getattr(error, "needs_trust", None)
    if directory is None:
        return reason
    import shlex

    return reason.replace(f"trust={[directory]!r} allows it", f"--trust {shlex.quote(directory)} allows it")


def discard_unwritable_stdout(error: BaseException) -> None:
    """After a failed write keep the interpreter from trying, and complaining, again when it exits."""
    if not isinstance(error, OSError) or isinstance(error, FvdError) or sys.stdout is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def say(text: str) -> None:
    """Write `text` to stderr, if there is any."""
    if text:
        _output.complain(text)
