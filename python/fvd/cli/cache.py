"""`fvd cache`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser, UsageError
from fvd.cli._output import human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fvd.cli._arguments import Given
    from fvd.types import CacheCheck, CacheObject

ACTIONS = ("list", "verify", "prune")
STATUS_DAMAGED = 1


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "cache",
        "List, check or shrink the cache for bases that are far away",
        "list [--output human|json] DIR\n"
        "  fvd cache verify [-q] [--output human|json] DIR\n"
        "  fvd cache prune [-q] (--size N[kMGT] | --all) DIR",
    )
    _common.quiet_option(parser)
    _common.output_option(parser)
    parser.option(
        "--size", metavar="N", help="prune: what was used least recently goes until N bytes are left"
    )
    parser.switch("--all", help="prune: everything goes")
    parser.describe("list", "show what is in the cache")
    parser.describe("verify", "read all of it, and remove what is damaged")
    parser.describe("prune", "make it smaller")
    parser.describe("DIR", "the folder of the cache (--cache-dir)")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    expected = f"Expecting one of {', '.join(ACTIONS)} and a folder"
    given = parser().parse(arguments, 2, 2, expected)
    action, directory = given.files
    if action not in ACTIONS:
        raise UsageError(f"Expecting one of {', '.join(ACTIONS)}, not '{action}'", "cache")
    as_json = _common.wants_json(given, "cache")
    if action != "prune" and (given.size is not None or given.all):
        raise UsageError(f"{action}: --size and --all are for prune", "cache")
    cache = fvd.Cache(directory)
    if action == "prune":
        left = cache.prune(_size(given))
        if not given.quiet:
            _output.remark(f"The cache has {human_size(left)} now.\n")
        return 0
    if action == "list":
        objects = cache.objects()
        _write([_output.json_document(objects)] if as_json else table(objects))
        return 0
    checks = cache.verify()
    if not given.quiet:
        _write([_output.json_document(checks)] if as_json else report(checks))
    return STATUS_DAMAGED if any(check["damaged"] for check in checks) else 0


def _write(lines: list[str] | Iterator[str]) -> None:
    for line in lines:
        _output.write(line)


def _size(given: Given) -> int:
    if given.all == (given.size is not None):
        raise UsageError("prune: Expecting one of --size and --all", "cache")
    if given.all:
        return 0
    from fvd.options import SizeRangeError, SizeSyntaxError, parse_size

    try:
        return parse_size(given.size)
    except (SizeRangeError, SizeSyntaxError):
        raise _common.CommandError(f"Invalid size '{given.size}'") from None


def table(objects: list[CacheObject]) -> Iterator[str]:
    """Yield the lines that show what is in a cache: 80 columns, and the URLs below."""
    if not objects:
        yield "The cache is empty.\n"
        return
    yield f"{'In cache':>10}  {'Of':>10}  {'On disk':>10}  {'Last used':16}  Open\n"
    for found in objects:
        used = _time(found["last_use"])
        sizes = "  ".join(f"{human_size(found[key]):>10}" for key in ("present", "length", "used"))
        yield f"{sizes}  {used:16}  {'yes' if found['open'] else 'no'}\n"
        yield f"    {printable(found['url'])}\n    {printable(found['pin'])}\n"


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def report(checks: list[CacheCheck]) -> Iterator[str]:
    """Yield the lines about a check."""
    for check in checks:
        verdict = f"{check['damaged']} damaged, removed" if check["damaged"] else "no damage"
        yield f"{check['checked']} units checked, {verdict}: {printable(check['url'])}\n"
    if not checks:
        yield "The cache is empty.\n"
