"""The entry point: finds the command, and converts errors to a line and an exit status."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import NoReturn

COMMANDS = {
    "amend": "Change what an image says of itself, its size included",
    "bench": "Measure how fast an image is read or written",
    "cache": "List, check or shrink the cache for bases that are far away",
    "check": "Check the metadata of an image, and repair it",
    "commit": "Write what an image has to its base, and empty the image",
    "compare": "Check if two images have the same contents",
    "convert": "Copy one image to another, with format conversion",
    "create": "Create and format a new image file",
    "dump": "Show header, table, bitmap, journal and prefetch profile of an image",
    "info": "Display information about an image",
    "map": "Show where the data of a disk lies",
    "measure": "Calculate how large a new image can become",
    "prefetch": "Fetch everything that an image still needs from its base",
    "profile": "Show, export, import or clear the prefetch profile of an image",
    "publish": "Publish a disk as a template, in a store or a web server's folder",
    "rebase": "Give an image another base, and keep its content",
    "resize": "Change the size of a disk",
    "serve": "Serve disks over NBD",
    "update": "Change what an image says of itself, as with the original driver",
}

STATUS_FAILED = 1


def command() -> NoReturn:
    """Run the `fvd` command: `main`, and then the end of the process.

    To take the interpreter apart would be a sixth of the time of a short command, and would free only what
    ends with the process. What has to happen before that happens here: functions registered with `atexit`
    close images and servers that are still open, and the streams are flushed.
    """
    status = main()
    if "threading" in sys.modules:
        # There may be threads to wait for.
        sys.exit(status)
    import atexit

    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # an exit function has written to a full disk, or closed the stream
        sys.exit(status)
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith(("--log-", "--errors")):
        return _guarded(lambda: _after_program_options(given), STATUS_FAILED)
    return _main(given, {})


def _after_program_options(given: list[str]) -> int:
    from fvd.cli import _log, _output

    found, rest = _log.split(given)
    if not found:
        return _refused(f"unrecognized option '{given[0].partition('=')[0]}'")
    errors = found.pop("--errors", "text")
    if errors not in ("text", "json"):
        return _refused(f"--errors is '{errors}', expecting text or json")
    if errors == "json":
        _output.errors_as_json()
    return _main(rest, found)


def _main(given: list[str], log: dict[str, str]) -> int:
    """Run the command line after the options of the program, of which `log` are those of the log."""
    if given[:1] in (["-V"], ["--version"]):
        return _guarded(_version, STATUS_FAILED)
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    if given[:1] in (["-h"], ["--help"]):
        return _guarded(_help, STATUS_FAILED)
    if not given:
        return _refused("Not enough arguments")
    name, rest = given[0], given[1:]
    if name.startswith("--"):
        return _refused(f"unrecognized option '{name.partition('=')[0]}'")
    if name.startswith("-") and name != "-":
        return _refused(f"invalid option -- '{name[1]}'")
    if name not in COMMANDS:
        return _guarded(lambda: _not_found(name), STATUS_FAILED)
    # For `compare`, a status of 1 means that the images differ.
    failed = 2 if name == "compare" else STATUS_FAILED
    return _guarded(lambda: _run(name, rest, log), failed)


def _not_found(name: str) -> int:
    from fvd.cli import _not_here

    instead = f" ({_not_here.COMMANDS[name]})" if name in _not_here.COMMANDS else ""
    return _refused(f"Command not found: {name}{instead}")


def _run(name: str, arguments: list[str], log: dict[str, str]) -> int:
    """Run a command, with the log if there is to be one. `serve` starts its own, after it has forked."""
    command = _command(name)
    if name == "serve":
        return int(command.run([*(f"{option}={value}" for option, value in log.items()), *arguments]))
    if not log and not os.environ.get("FVD_LOG"):
        return int(command.run(arguments))
    from fvd.cli import _log

    _log.start(log.get("--log-level"), log.get("--log-format"))
    try:
        return int(command.run(arguments))
    finally:
        _log.finish()


def _command(name: str) -> ModuleType:
    """Return the module of that command, which has its parser and runs it."""
    # Without `importlib`, which would have to be imported.
    return __import__(f"fvd.cli.{name}", fromlist=["run"])


def _version() -> int:
    from fvd import __version__
    from fvd.cli import _output

    _output.write(f"fvd version {__version__}\n")
    return 0


def _help() -> int:
    from fvd.cli import _help, _output

    _output.write(_help.of_program(COMMANDS))
    return 0


def _refused(message: str) -> int:
    from fvd.cli import _output

    _output.complain(f"fvd: {message}\nTry 'fvd --help' for more info")
    return STATUS_FAILED


def _guarded(run: Callable[[], int], failed: int) -> int:
    """Run, and flush the output. No exception leaves this function."""
    from fvd.cli import _output

    try:
        _output.prepare()
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except SystemExit as ended:  # raised by an option such as --help, which has printed its text
        return _guarded(lambda: 0, failed) if not ended.code else failed
    except BaseException as error:
        if os.environ.get("FVD_DEBUG") == "1" and not isinstance(error, BrokenPipeError):
            import traceback

            traceback.print_exc()
        return _report(error, failed)


def _report(error: BaseException, failed: int) -> int:
    from fvd.cli import _output

    try:
        from fvd.cli import _errors
    except ImportError as broken:
        _output.complain(f"fvd: not installed as it should be: {broken}")
        return failed
    text, status = _errors.explain(error, failed)
    try:
        _errors.discard_unwritable_stdout(error)
        _errors.say(text, error, status)
    except OSError:
        pass  # stderr cannot be written either, so only the status remains
    return status
