"""Errors, warnings and notes as objects, one a line: `fvd --errors=json`."""

from __future__ import annotations

import errno
import json
import os

from fvd import FvdError
from fvd._config import ConfigError
from fvd.cli._arguments import UsageError
from fvd.cli._common import CommandError
from fvd.options import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def line(text: str, facts: Mapping[str, object]) -> str:
    """Return the object about `text`, which is as people see it. `facts` say more."""
    message, _, hint = text.partition("\n")
    message = message.removeprefix("fvd: ")
    level = "error"
    for name in ("warning", "note"):
        if message.startswith(f"{name}: "):
            level, message = name, message.removeprefix(f"{name}: ")
    found: dict[str, object] = {"level": level, "message": message}
    if hint:
        found["hint"] = hint
    return json.dumps(found | dict(facts))


def facts(error: BaseException, status: int) -> dict[str, object]:
    """Return what is known of an error in addition to its message."""
    found: dict[str, object] = {"error": _name(error), "status": status}
    if isinstance(error, OSError):
        if error.errno is not None:
            found["errno"] = errno.errorcode.get(error.errno, str(error.errno))
        if error.filename is not None:
            found["file"] = os.fsdecode(error.filename)
        operation: str | None = getattr(error, "op", None)
        if operation:
            found["operation"] = operation
    return found


def _name(error: BaseException) -> str:
    """Return the class of an `FvdError`, `usage`, `invalid` (a value), `system` or `internal`."""
    if isinstance(error, FvdError):
        return type(error).__name__
    if isinstance(error, UsageError):
        return "usage"
    if type(error) is ValueError or isinstance(error, CommandError | ConfigError | OptionError):
        return "invalid"
    return "system" if isinstance(error, OSError | MemoryError) else "internal"
