"""Every command on things that are not images."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fvd_command
from support.processes import measured

# Commands that read. The file replaces {}.
READING: dict[str, tuple[str, ...]] = {
    "info": ("info", "{}"),
    "info of the chain": ("info", "--backing-chain", "{}"),
    "check": ("check", "{}"),
    "repair": ("check", "-r", "all", "{}"),
    "map": ("map", "{}"),
    "dump": ("dump", "{}"),
    "convert to raw": ("convert", "-O", "raw", "{}", "out"),
    "convert to fvd": ("convert", "-O", "fvd", "{}", "out"),
    "compare": ("compare", "{}", "good.fvd"),
    "compare behind": ("compare", "good.fvd", "{}"),
    "overlay": ("create", "-f", "fvd", "-b", "{}", "out"),
    "amend": ("amend", "-o", "need_zero_init=on", "{}"),
}
WRITING: dict[str, tuple[str, ...]] = {
    "create": ("create", "-f", "fvd", "{}", "1M"),
    "create raw": ("create", "-f", "raw", "{}", "1M"),
    "convert": ("convert", "-O", "fvd", "good.fvd", "{}"),
    "convert into": ("convert", "-n", "-O", "fvd", "good.fvd", "{}"),
    "amend": ("amend", "-o", "size=2M", "{}"),
    "data file": ("create", "-f", "fvd", "--force", "-o", "data_file={}", "out", "1M"),
}


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def null(path: Path) -> None:
    path.symlink_to("/dev/null")


def unix_socket(path: Path) -> None:
    # The path of a socket must be short.
    here = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as unbound:
        unbound.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def missing(path: Path) -> None:
    assert not path.exists()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("This is no image.\n" * 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fvd_command("create", "-q", "-f", "fvd", tmp_path / "good.fvd", "1M")
    return tmp_path


def arguments(template: tuple[str, ...], name: str) -> list[str]:
    return [word.replace("{}", name) for word in template]


@pytest.mark.parametrize("make", [directory, fifo, zeros, null, unix_socket, missing, loop])
@pytest.mark.parametrize("command", READING)
def test_a_path_that_is_no_file_is_refused_at_once(
    folder: Path, command: str, make: Callable[[Path], None]
) -> None:
    make(folder / "thing")
    finished = measured(*arguments(READING[command], "thing"), cwd=folder)
    finished.assert_refused(2 if command.startswith("compare") else 1)
    assert b"thing" in finished.err
    assert not (folder / "out").exists(), "an incomplete file was left"


@pytest.mark.parametrize("make", [directory, fifo, zeros, null, unix_socket, loop])
@pytest.mark.parametrize("command", WRITING)
def test_nothing_but_a_file_is_written_to(folder: Path, command: str, make: Callable[[Path], None]) -> None:
    thing = folder / "thing"
    make(thing)
    before = thing.lstat()
    measured(*arguments(WRITING[command], "thing"), cwd=folder).assert_refused(1)
    assert thing.lstat().st_mode == before.st_mode
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("make", [empty, text])
@pytest.mark.parametrize("command", READING)
def test_a_file_that_is_no_image_is_raw_or_refused(
    folder: Path, command: str, make: Callable[[Path], None]
) -> None:
    make(folder / "thing")
    before = (folder / "thing").read_bytes()
    finished = measured(*arguments(READING[command], "thing"), cwd=folder)
    could_not = 2 if command.startswith("compare") else 1
    finished.assert_orderly({"check": (63,), "repair": (63,), "dump": (1,)}.get(command, (0, 1, could_not)))
    if command not in ("dump", "overlay"):
        flag = "-F" if command == "compare behind" else "-f"
        template = (READING[command][0], flag, "fvd", *READING[command][1:])
        finished = measured(*arguments(template, "thing"), cwd=folder)
        finished.assert_refused(2 if command.startswith("compare") else 1)
        assert b"not an FVD image" in finished.err
    assert (folder / "thing").read_bytes() == before


def without_privileges() -> tuple[str, ...]:
    """Words that take away root's permission to access any file."""
    if os.geteuid() != 0:
        return ()
    lost = "-dac_override,-dac_read_search"
    return ("setpriv", f"--inh-caps={lost}", f"--bounding-set={lost}")


@pytest.mark.parametrize("command", READING)
def test_a_file_that_may_not_be_read_is_refused(folder: Path, command: str) -> None:
    fvd_command("create", "-q", "-f", "fvd", folder / "thing", "1M")
    (folder / "thing").chmod(0)
    finished = measured(*arguments(READING[command], "thing"), cwd=folder, before=without_privileges())
    finished.assert_refused(2 if command.startswith("compare") else 1)
    assert b"Permission denied" in finished.err


@pytest.mark.parametrize("command", ["create", "convert", "convert into", "amend", "data file"])
def test_a_file_that_may_not_be_written_stays_as_it_is(folder: Path, command: str) -> None:
    thing = folder / "thing"
    fvd_command("create", "-q", "-f", "fvd", thing, "1M")
    thing.chmod(0o444)
    before = thing.read_bytes()
    finished = measured(*arguments(WRITING[command], "thing"), cwd=folder, before=without_privileges())
    finished.assert_refused(1)
    assert b"Permission denied" in finished.err
    assert thing.read_bytes() == before


@pytest.mark.parametrize(
    "name", [b"new\nline", b"\x1b[31mred\x1b[0m", b"caf\xe9", b"\xff\xfe", b" ", b"-rf", "ünï".encode()]
)
def test_names_of_any_bytes_work_and_are_printed_escaped(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    measured("create", "-f", "fvd", "-o", "compact_image=on", path, "1M").assert_orderly((0,))
    assert os.path.exists(path)
    for command in ("info", "check", "map", "dump"):
        for output in ("human", "json"):
            finished = measured(command, f"--output={output}", path)
            finished.assert_orderly((0,))
            assert b"\x1b" not in finished.out
    os.truncate(path, 10)
    for command in ("info", "check", "map", "dump"):
        finished = measured(command, "-f", "fvd", path) if command != "dump" else measured(command, path)
        finished.assert_refused(1)
        assert b"\x1b" not in finished.err
        assert finished.err.count(b"\n") == 1, finished.err
