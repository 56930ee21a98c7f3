"""Programs that fork while something is open."""

import os
import signal
import subprocess
import sys
import textwrap

HANGS = 180

PREAMBLE = '''
import os, signal, sys, threading, time
import fvd

path = sys.argv[1]


def fork():
    """A signal ends a child that hangs, which its status shows."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
    return child


def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(operation, *arguments):
    """Returns True if the operation failed with the right advice, and raises an exception otherwise."""
    try:
        operation(*arguments)
    except ValueError as error:
        assert "open after forking" in str(error), error
        return True
    raise AssertionError(f"{operation} has worked in a child")


def die():
    """Ends this process like a crash."""
    os.kill(os.getpid(), signal.SIGKILL)
'''


def run_forking(script: str, *arguments: str | os.PathLike[str], status: int = 0) -> str:
    """Runs the script after the preamble and returns its stdout. All its processes must end."""
    command = [sys.executable, "-W", "ignore", "-c", PREAMBLE + textwrap.dedent(script)]
    with subprocess.Popen(
        [*command, *(os.fspath(word) for word in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"it hangs: {out}\n{err}") from None
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    assert "panicked" not in err, err
    assert "Traceback" not in err, err
    return out
