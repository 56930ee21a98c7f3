"""The `fvd` command as a process, and the resources that it used."""

import os
import shutil
import signal
import subprocess
import sys
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
    """The result of a process."""

    command: str
    status: int
    out: bytes
    err: bytes
    cpu: float
    rss: int

    def assert_orderly(self, statuses: tuple[int, ...]) -> None:
        """Whatever the result: it was fast, used few resources, and reported errors in one line."""
        context = f"{self.command}: status {self.status}, {self.cpu:.2f} s, {self.rss} bytes\n{self.err!r}"
        assert self.status in statuses, context
        assert b"Traceback" not in self.err, context
        assert b"internal error" not in self.err, context
        assert b"panicked" not in self.err, context
        assert self.cpu < CPU_SECONDS, context
        assert self.rss < RSS, context

    def assert_refused(self, status: int) -> None:
        """It failed, and gave the reason in one line."""
        self.assert_orderly((status,))
        assert self.err.startswith(b"fvd: "), self.err


Word = str | bytes | os.PathLike[str]


# A process inherits the peak memory of its parent, and the test process is large. So a small process starts
# the command, waits for it, and reports through a pipe which resources it used.
LAUNCHER = """
import os, sys
pipe = int(sys.argv[1])
os.set_inheritable(pipe, False)
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
cpu, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
os.write(pipe, f"{os.waitstatus_to_exitcode(status)} {cpu} {rss}".encode())
"""


def measured(*arguments: Word, cwd: Path | None = None, before: tuple[str, ...] = ()) -> Finished:
    """Runs the `fvd` command, after the words `before`, and returns its result and resources."""
    command = [os.fsencode(word) for word in (*before, FVD, *arguments)]
    program = shutil.which(command[0])
    assert program is not None, command
    reader, writer = os.pipe()
    launcher: list[str | bytes] = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        LAUNCHER,
        str(writer),
        os.fsdecode(program),
        *command[1:],
    ]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, os.fdopen(reader) as told:
        process = subprocess.Popen(
            launcher,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=TOOLS_ENV,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        watchdog = threading.Timer(HANGS, os.killpg, [process.pid, signal.SIGKILL])
        watchdog.start()
        process.wait()
        watchdog.cancel()
        status, cpu, rss = told.read().split() or ["-9", "inf", "0"]
        out.seek(0)
        err.seek(0)
        return Finished(
            b" ".join(command).decode(errors="replace"),
            int(status),
            out.read(),
            err.read(),
            float(cpu),
            int(rss),
        )


def overlay_of_another_process(path: Path, url: str) -> Path:
    """An overlay on the raw disk at `url`, of which this process has nothing in memory."""
    command: list[str | Path] = [FVD, "create", "-q", "-b", url, "-F", "raw", "--trust", url, path]
    subprocess.run(command, check=True)
    return path
