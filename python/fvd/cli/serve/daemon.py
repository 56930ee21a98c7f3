"""A process that continues in the background, and its PID file."""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Daemon:
    """Two processes after a fork: the parent waits until the child is ready or has failed."""

    def __init__(self, child: int, pipe: int) -> None:
        """Store the end of the pipe on which the child reports that it is ready. `child` is 0 in the
        child.
        """
        self._child = child
        self._pipe = pipe

    @classmethod
    def fork(cls) -> Daemon:
        """Fork. The process must not have threads yet."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        reading, writing = os.pipe()
        child = os.fork()
        mine, other = (reading, writing) if child else (writing, reading)
        os.close(other)
        if not child:
            os.setsid()
        return cls(child, mine)

    @property
    def is_parent(self) -> bool:
        """Whether this is the parent, which waits."""
        return self._child != 0

    def wait(self) -> int:
        """Return 0 once the child is ready, or the exit status with which it failed."""
        is_ready = os.read(self._pipe, 1)
        os.close(self._pipe)
        if is_ready:
            return 0
        _, status = os.waitpid(self._child, 0)
        return os.waitstatus_to_exitcode(status) % 256

    def ready(self, *, keeps_stderr: bool) -> None:
        """Detach from terminal and directory, and report that this process is ready.

        With `keeps_stderr`, stderr stays as it is, for the log.
        """
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(2 if keeps_stderr else 3):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b"!")
        os.close(self._pipe)


class PidFile:
    """A file with the PID of this process, which exists as long as this context. Without a path, no file."""

    def __init__(self, path: str | None) -> None:
        """Store the path. Writes nothing yet."""
        self._path = None if path is None else os.path.abspath(path)

    def __enter__(self) -> PidFile:
        """Write the file."""
        if self._path is not None:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
