"""The `fvd` command as a process, with what it cost."""

import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from support import FVD, MIB, TOOLS_ENV

HANGS = 30
CPU_SECONDS = 1.0
RSS = 200 * MIB


@dataclass(frozen=True)
class Finished:
    """How a process ended."""

    command: str
    status: int
    out: bytes
    err: bytes
    cpu: float
    rss: int

    def assert_orderly(self, statuses: tuple[int, ...]) -> None:
        """Whatever happened: it was quick, cheap, and said so in a line."""
        context = f"{self.command}: status {self.status}, {self.cpu:.2f} s, {self.rss} bytes\n{self.err!r}"
        assert self.status in statuses, context
        assert b"Traceback" not in self.err, context
        assert b"internal error" not in self.err, context
        assert b"panicked" not in self.err, context
        assert self.cpu < CPU_SECONDS, context
        assert self.rss < RSS, context

    def assert_refused(self, status: int) -> None:
        """It failed, and said why in a line."""
        self.assert_orderly((status,))
        assert self.err.startswith(b"fvd: "), self.err


Word = str | bytes | os.PathLike[str]


def measured(*arguments: Word, cwd: Path | None = None, before: tuple[str, ...] = ()) -> Finished:
    """Runs the `fvd` command, behind the words `before`, and tells what it took."""
    command = [os.fsencode(word) for word in (*before, FVD, *arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=TOOLS_ENV
        )
        watchdog = threading.Timer(HANGS, process.kill)
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Finished(
            b" ".join(command).decode(errors="replace"),
            process.returncode,
            out.read(),
            err.read(),
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
        )
