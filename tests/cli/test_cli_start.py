"""What a command imports and how its process ends: most of the time of a short command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from support import FVD, MIB, fvd_command, run

# Modules of the standard library that are cheap: part of the interpreter, or small.
CHEAP = {"__future__", "_signal", "atexit", "errno", "time"}
ALWAYS = {"fvd", "fvd._fvd", "fvd.cli", "fvd.cli.main", "fvd.cli._output"}
PARSING = {"fvd.cli._arguments", "fvd.cli._common"}

LIST_MODULES = "import sys; {body}; print(*sys.modules, sep='\\n', file=sys.stderr)"


def loaded(body: str) -> set[str]:
    """The modules that are imported once an interpreter has run `body`."""
    script = LIST_MODULES.format(body=body)
    return set(run(sys.executable, "-W", "ignore", "-c", script).stderr.decode().split())


def imported_by(*arguments: str | Path) -> set[str]:
    """The modules that a command imports, and the bare interpreter does not."""
    words = [str(word) for word in arguments]
    return loaded(f"import fvd.cli.main; assert fvd.cli.main.main({words!r}) == 0") - loaded("pass")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd_command("create", "-q", path, "1M")
    return path


def test_the_version_imports_no_more_than_the_entry_point() -> None:
    assert imported_by("--version") - CHEAP == ALWAYS


def test_info_imports_only_its_own_module_and_the_parser(disk: Path) -> None:
    assert imported_by("info", disk) - CHEAP == ALWAYS | PARSING | {"fvd.cli.info", "fvd.cli._fvd_fields"}


def test_create_imports_no_options_unless_some_are_given(tmp_path: Path) -> None:
    own = {"fvd.cli.create", "fvd.cli._signals", "fvd._config", "fvd._sizes"}
    assert imported_by("create", "-q", tmp_path / "new", "1M") - CHEAP == ALWAYS | PARSING | own
    options = {"fvd.options", "fvd._disks", "fvd._public"}
    with_options = imported_by("create", "-q", "-o", "compact_image=on", tmp_path / "new", "1M")
    assert with_options - CHEAP == ALWAYS | PARSING | own | options


def test_convert_imports_no_options_unless_some_are_given(disk: Path, tmp_path: Path) -> None:
    own = {"fvd.cli.convert", "fvd.cli._moving", "fvd.cli._signals", "fvd.cli._progress", "fvd._config"}
    assert imported_by("convert", disk, tmp_path / "raw") - CHEAP == ALWAYS | PARSING | own


@pytest.mark.parametrize("command", ["check", "dump", "map", "resize"])
def test_a_short_command_imports_no_slow_module(disk: Path, command: str) -> None:
    rest = ["2M"] if command == "resize" else []
    slow = {"argparse", "asyncio", "collections", "contextlib", "enum", "functools", "json", "re", "typing"}
    assert not imported_by(command, disk, *rest) & slow


def test_the_script_runs_exit_functions_and_flushes_its_output(disk: Path) -> None:
    # Without a sign of threads, the process ends without taking the interpreter apart.
    script = """
import atexit, sys
from fvd.cli.main import command
class Loud:
    def __del__(self): print("taken apart")
loud = Loud()
atexit.register(lambda: print("exit function"))
sys.argv = ["fvd", *sys.argv[1:]]
command()
"""
    arguments = [sys.executable, "-W", "ignore", "-c", script]
    ended = run(*arguments, "info", "--output=json", disk)
    document, _, after = ended.stdout.decode().partition("exit function\n")
    assert json.loads(document)["virtual-size"] == MIB
    assert (after, ended.stderr) == ("", b"")
    failed = run(*arguments, "info", disk.with_name("missing"), ok=[1])
    assert failed.stdout == b"exit function\n"
    assert failed.stderr.endswith(b"No such file or directory\n")


def test_the_script_waits_for_threads(disk: Path) -> None:
    script = """
import sys, threading, time
from fvd.cli.main import command
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.argv = ["fvd", "check", "-q", sys.argv[1]]
command()
"""
    assert run(sys.executable, "-W", "ignore", "-c", script, disk).stdout == b"thread\n"


def test_the_script_reports_a_full_disk_as_the_module_does(disk: Path) -> None:
    for command in (f"{FVD}", f"{sys.executable} -W ignore -m fvd"):
        ended = run("sh", "-c", f"{command} info {disk} >/dev/full", ok=[1])
        assert ended.stderr == b"fvd: Could not write the output: No space left on device\n"
        assert run("sh", "-c", f"{command} info {disk}x >/dev/full 2>&1", ok=[1]).stderr == b""
