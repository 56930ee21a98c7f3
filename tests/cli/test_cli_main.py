"""The entry point: help, version, and the output after failures."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import fvd
from cli.conftest import Run
from cli.fake_core import FakeCore
from fvd.cli.main import COMMANDS


def test_the_version_is_one_line(run: Run) -> None:
    for flag in ("--version", "-V"):
        assert run(flag).out == f"fvd version {fvd.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_reached_in_two_ways(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"  fvd {command} " in outcome.out
    assert "  -h, --help\n     print this help and exit\n" in outcome.out
    assert run("help", command).out == outcome.out
    assert f"  {command} - " in run("--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        [],
        ["--bogus"],
        ["-x"],
        ["create", "--bogus"],
        ["create", "-z"],
        ["create", "--back", "x"],
        ["create"],
        ["create", "x", "1M", "2M"],
        ["create", "x", "-5"],
        ["info"],
        ["info", "a", "b"],
        ["info", "--output=xml", "a"],
        ["check", "-r", "some", "a"],
        ["map", "-s", "abc", "a"],
        ["map", "-l", "-1", "a"],
        ["convert", "-c", "a", "b"],
        ["convert"],
        ["convert", "a"],
        ["convert", "-O", "foo", "a", "b"],
        ["convert", "-S", "5", "a", "b"],
        ["convert", "-S", "abc", "a", "b"],
        ["convert", "-S", "1T", "a", "b"],
        ["convert", "-m", "17", "a", "b"],
        ["convert", "-t", "foo", "a", "b"],
        ["convert", "-T", "foo", "a", "b"],
        ["convert", "-n", "-o", "a=b", "a", "b"],
        ["convert", "--target-is-zero", "a", "b"],
        ["create", "-b"],
        ["create", "-q", "--backing"],
        ["create", "-z", "-b"],
        ["info", "--bogus", "--help"],
        ["info", "--f", "x"],
        ["convert", "-Uz", "a", "b"],
    ],
)
def test_a_wrong_command_line_is_refused_in_qemu_imgs_words(
    run: Run, core: FakeCore, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(512))
    theirs = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    ours = run(*arguments)
    assert ours.err.replace("fvd", "qemu-img") == theirs.stderr
    assert (ours.status, ours.out) == (theirs.returncode, "")
    assert core.calls == []


def test_an_error_of_the_core_names_operation_file_and_reason(run: Run, core: FakeCore) -> None:
    core.answers["info"] = fvd.FvdError(errno.ENOENT, "No such file or directory", "x.fvd")
    outcome = run("info", "x.fvd")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "fvd: Could not open 'x.fvd': No such file or directory\n"


def test_a_name_from_an_image_cannot_drive_the_terminal(run: Run, core: FakeCore) -> None:
    core.answers["info"] = fvd.InvalidImageError(errno.EINVAL, "base_img is '\x1b[2J\x9b'", "x")
    assert run("info", "x").err == "fvd: Could not open 'x': base_img is '\\x1b[2J\\x9b'\n"


def test_misuse_reported_by_the_core_is_one_line(run: Run, core: FakeCore) -> None:
    core.answers["info"] = ValueError("bad")
    assert run("info", "x").err == "fvd: bad\n"


def test_an_interrupt_prints_nothing_and_has_a_signal_status(run: Run, core: FakeCore) -> None:
    core.answers["info"] = KeyboardInterrupt()
    outcome = run("info", "x")
    assert (outcome.status, outcome.err) == (130, "")


class Panic(BaseException):
    """Stands for a panic of the core, which is not even an Exception."""


@pytest.mark.parametrize("error", [RuntimeError("a\nb"), Panic("a\nb")])
def test_anything_unexpected_is_one_line_without_a_traceback(
    run: Run, core: FakeCore, error: BaseException
) -> None:
    core.answers["info"] = error
    outcome = run("info", "x")
    assert outcome.status == 1
    assert outcome.err.startswith(f"fvd: internal error: {type(error).__name__}: a b (")
    assert outcome.err.count("\n") == 1


def test_a_traceback_is_shown_on_request(run: Run, core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVD_DEBUG", "1")
    core.answers["info"] = RuntimeError("odd")
    assert "Traceback" in run("info", "x").err


SCRIPT = """
import sys
from fvd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments: str, stdout: int) -> subprocess.Popen[str]:
    path = "import sys; sys.path[:0] = " + repr([entry for entry in sys.path if entry])
    return subprocess.Popen(
        [sys.executable, "-c", path + SCRIPT, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def test_a_closed_pipe_on_stdout_prints_no_error() -> None:
    process = start("--help", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_stdout_on_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        process = start("--version", stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "fvd: Could not write the output: No space left on device\n")
