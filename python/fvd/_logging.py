"""Records of the core as records of `logging`: `fvd.enable_logging`.

The core puts its records into a queue, and a thread here takes them. So no thread of the core waits for
Python.
"""

from __future__ import annotations

import logging
import os
import threading

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TRACE = 5
"""The level of single requests, for which `logging` has no name."""


class _State:
    """What belongs to one process."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.lock = threading.Lock()
        self.runs = False


_state = _State()
_forks_are_watched = False


def enable_logging(level: int | str | None = "INFO") -> None:
    """Send what the core reports to `logging`, from `level` on; None stops that.

    ```pycon
    >>> import logging
    >>> logging.basicConfig(format="%(name)s: %(message)s")
    >>> fvd.enable_logging("DEBUG")
    >>> logging.getLogger("fvd.image").setLevel("DEBUG")  # flushes, checkpoints, recovery
    >>> with fvd.open("disk.fvd", "r+") as disk:
    ...     disk.flush()
    >>> fvd.enable_logging(None)
    ```

    The loggers are `fvd` and those below it: `fvd.image`, `fvd.copy` (prefetch), `fvd.source` (bases),
    `fvd.storage` and `fvd.nbd` (servers). As with any logger, their own levels decide, too. `level` is a
    number or a name of `logging`, or `"TRACE"` (5): single requests of servers, and operations handed to
    threads. What is below `level` costs nothing. The message of a record ends with its fields. They are also
    the dictionary `record.fvd_fields`; the spans around the record are the list `record.fvd_spans`.

    A thread of Python delivers the records, so they can come a moment after the call that caused them. If it
    falls behind by more than 4096 records, further ones are dropped, and a warning says how many. A forked
    child delivers its own records.

    Raises `ValueError` for an unknown level, `IoError` if there is no descriptor to spare.
    """
    number = None if level is None else _number(level)
    if number is not None:
        if logging.getLevelName(TRACE) == f"Level {TRACE}":
            logging.addLevelName(TRACE, "TRACE")
        _start()
    _core.set_log_level(number)
    if number is None:
        deliver()


def deliver() -> None:
    """Hand the records that wait to their loggers."""
    with _state.lock:
        records, dropped = _core.take_log()
        for record in records:
            _handle(*record)
        if dropped:
            logging.getLogger("fvd").warning("%d records were dropped: they came too fast", dropped)


def _number(level: int | str) -> int:
    if isinstance(level, str):
        numbers = {**logging.getLevelNamesMapping(), "TRACE": TRACE}
        if level.upper() not in numbers:
            raise ValueError(f"unknown level {level!r}: a number or name of `logging`, or 'TRACE'")
        return numbers[level.upper()]
    if not 0 <= level < 2**31:
        raise ValueError(f"level must be from 0 to 2147483647, not {level}")
    return level


def _start() -> None:
    """Start the thread of this process, if it does not run."""
    global _forks_are_watched
    with _state.lock:
        if _state.runs:
            return
        descriptor = _core.log_descriptor()
        threading.Thread(target=_run, args=(descriptor,), name="fvd-logging", daemon=True).start()
        _state.runs = True
    if not _forks_are_watched:
        os.register_at_fork(after_in_child=_start_in_child)
        _forks_are_watched = True


def _start_in_child() -> None:
    global _state
    # The thread, and perhaps the lock that it held, belong to the parent.
    _state = _State()
    _start()


def _run(descriptor: int) -> None:
    while True:
        try:
            os.read(descriptor, 8)
        except OSError:
            return
        try:
            deliver()
        except Exception:
            # A filter of the program has failed. `logging` treats its handlers in the same way.
            if logging.raiseExceptions:
                import traceback

                traceback.print_exc()


def _handle(
    created: float,
    level: int,
    target: str,
    message: str,
    fields: Mapping[str, object],
    spans: Sequence[tuple[str, Mapping[str, object]]],
    thread: str | None,
) -> None:
    name = target.replace("fvd_", "fvd.").replace("::", ".")
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(level):
        return
    text = " ".join([message, *(f"{field}={value}" for field, value in fields.items())])
    extra = {"fvd_fields": fields, "fvd_spans": spans}
    record = logger.makeRecord(name, level, target, 0, text, (), None, extra=extra)
    record.created = created
    record.msecs = created % 1 * 1000
    record.threadName = thread
    logger.handle(record)
