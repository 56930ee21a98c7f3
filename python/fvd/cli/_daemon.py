"""A process that goes on in the background, and the file that names it."""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Daemon:
    """Two processes after a fork: one that waits until the other is ready, or has failed."""

    def __init__(self, child: int, pipe: int) -> None:
        """Hold an end of the pipe through which `child`, 0 in itself, says that it is ready."""
        self._child = child
        self._pipe = pipe

    @classmethod
    def fork(cls) -> Daemon:
        """Fork. There must be no thread yet."""
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
        """Whether this is the process that waits."""
        return self._child != 0

    def wait(self) -> int:
        """Return 0 once the other one is ready, else the exit status that it failed with."""
        is_ready = os.read(self._pipe, 1)
        os.close(self._pipe)
        if is_ready:
            return 0
        _, status = os.waitpid(self._child, 0)
        return os.waitstatus_to_exitcode(status) % 256

    def ready(self) -> None:
        """Let go of terminal and directory, and say that it is ready."""
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b"!")
        os.close(self._pipe)


class PidFile:
    """A file with the number of this process, there as long as this context; no file without a path."""

    def __init__(self, path: str | None) -> None:
        """Name it; nothing is written yet."""
        self._path = None if path is None else os.path.abspath(path)

    def __enter__(self) -> PidFile:
        """Write it."""
        if self._path is not None:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
