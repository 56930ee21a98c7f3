"""What several commands share: common options, and checks of their values."""

from __future__ import annotations

from fvd.cli._arguments import Parser, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import cast as cast

    from fvd import Remote
    from fvd.cli._arguments import Given
    from fvd.types import BaseError, CacheMode, Format, TargetFormat
else:

    def cast(kind, value):
        """Return `value`. Type checkers treat it as a `kind`; importing `typing` would take too long."""
        return value


READABLE = ("fvd", "raw", "qcow2")
WRITABLE = ("fvd", "raw")
_CACHE_MODES = ("writeback", "writethrough", "none", "directsync", "unsafe")


class CommandError(Exception):
    """The command cannot do what was requested; the message says why."""


def format_option(parser: Parser, *flags: str, what: str = "FILENAME", dest: str = "format") -> None:
    """Add an option for the format of `what`."""
    parser.option(
        *flags, metavar="FMT", dest=dest, help=f"format of {what}: {', '.join(READABLE)} (default: detect)"
    )


def output_option(parser: Parser) -> None:
    """Add `--output`."""
    parser.option(
        "--output", metavar="human|json", default="human", help="output format, human or json (default human)"
    )


def quiet_option(parser: Parser) -> None:
    """Add `-q`."""
    parser.switch("-q", "--quiet", help="print nothing but errors")


def share_option(parser: Parser) -> None:
    """Add `-U`."""
    parser.switch(
        "-U", "--force-share", help="open without locks, even while another program has the image open"
    )


def chain_option(parser: Parser) -> None:
    """Add `--backing-chain`."""
    parser.switch("-b", "--backing-chain", help="go on to the base images; without it none is opened")


def force_option(parser: Parser) -> None:
    """Add `--force`."""
    parser.switch("--force", help="overwrite a data file (-o data_file=) that is not empty")


def base_options(parser: Parser) -> None:
    """Add `--base-error` and `--base-timeout`."""
    parser.option(
        "--base-error",
        metavar="wait|report",
        help="what reads do if the base does not answer: wait (default), or fail after the\nbase timeout",
    )
    parser.option(
        "--base-timeout",
        metavar="SECONDS",
        help="fail after this time (default 30); means --base-error=report",
    )


def base_error(given: Given) -> BaseError | None:
    """Check what reads do if the base does not answer."""
    if given.base_error not in (None, "wait", "report"):
        raise CommandError(f"Invalid base error mode '{given.base_error}': wait or report")
    if given.base_error == "wait" and given.base_timeout is not None:
        raise CommandError("--base-timeout needs --base-error=report: reads that wait have no limit")
    return cast("BaseError | None", given.base_error)


def base_timeout(given: Given) -> float | None:
    """Convert the time after which reads of the base fail: seconds, more than 0."""
    if given.base_timeout is None:
        return None
    try:
        value = float(given.base_timeout)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise CommandError(f"Invalid base timeout '{given.base_timeout}': seconds, more than 0")
    return value


def trust_option(parser: Parser) -> None:
    """Add `--trust`."""
    parser.option(
        "--trust",
        metavar="DIR|URL",
        repeatable=True,
        help="also open files in DIR, or below it, that an image names, hidden ones\n"
        "too, or all that begins with URL; may be repeated (see also FVD_TRUST\n"
        "and the configuration file)",
    )


def cache_dir_option(parser: Parser) -> None:
    """Add `--cache-dir`."""
    parser.option(
        "--cache-dir",
        metavar="DIR",
        help="keep what comes from bases that are far away in DIR, for all images and\n"
        "processes of this machine (default: FVD_CACHE_DIR or the configuration)",
    )


def base_url_option(parser: Parser) -> None:
    """Add `--base-url`."""
    parser.option(
        "--base-url",
        metavar="FILE",
        help="read the remote base from the URL in FILE (-: standard input), such as a\n"
        "presigned one; or lines of a name and a URL, for several",
    )


def remote(given: Given) -> Remote | None:
    """Return what `--base-url` says about files on other machines."""
    if given.base_url is None:
        return None
    from fvd.cli import _base_url

    return _base_url.remote(given.base_url)


def trusted(arguments: Given) -> list[str]:
    """Return the trusted directories from all sources."""
    from fvd._config import trusted_directories

    return trusted_directories(cast("list[str]", arguments.trust))


def wants_json(arguments: Given, command: str) -> bool:
    """Tell whether `--output` is json. Raises UsageError for an unknown value."""
    if arguments.output not in ("human", "json"):
        raise UsageError(f"--output expects 'human' or 'json' not '{arguments.output}'", command)
    return bool(arguments.output == "json")


def warn_of_format(image: str, backing_file: object, backing_format: object, option: str) -> None:
    """Warn, as qemu-img does, about a base without a format; `option` is the option that would give it."""
    if backing_file is None or backing_format is not None:
        return
    from fvd.cli import _output

    _output.complain(
        f"fvd: warning: {image}: backing file without a format ({option}): it is guessed at every opening, "
        "and any writer of a raw one can make it look like another format"
    )
    import warnings

    # The warning was printed above, in the words of the command line.
    warnings.simplefilter("ignore", UserWarning)


def source_format(name: str | None) -> Format | None:
    """Check the name of a format to read. None means to detect it."""
    if name is not None and name not in READABLE:
        raise CommandError(f"Unknown file format '{name}'")
    return cast("Format | None", name)


def target_format(name: str) -> TargetFormat:
    """Check the name of a format to write."""
    if name in READABLE and name not in WRITABLE:
        raise CommandError(f"Format '{name}' can be read, not written; use one of: {', '.join(WRITABLE)}")
    if name not in WRITABLE:
        raise CommandError(f"Unknown file format '{name}'")
    return cast("TargetFormat", name)


def cache_mode(name: str, what: str) -> CacheMode:
    """Check a cache mode; `what` is its name in the message. `off` means none, as in QEMU."""
    name = "none" if name == "off" else name
    if name not in _CACHE_MODES:
        raise CommandError(f"Invalid {what} option: {name}")
    return cast("CacheMode", name)


def repeatable_options(parser: Parser, what: str = "options of the new image", *flags: str) -> None:
    """Add `-o`, also under other long `flags`."""
    parser.option(
        "-o",
        "--options",
        *flags,
        metavar="OPTIONS",
        repeatable=True,
        help=f"{what}, as a=b,c=d ('-o help' lists them); may be repeated",
    )


def option_help_asked(texts: Sequence[str], format: str) -> bool:
    """Print the help for `-o` if `-o help` was given, and tell whether it was."""
    if not texts:
        return False
    from fvd import options
    from fvd.cli import _output

    if not options.wants_help(texts):
        return False
    later = ""
    if format == "fvd":
        from fvd.amendable import later_help

        later = later_help()
    _output.write(options.options_help(format) + later)
    return True
