"""`fvd resize`."""

from __future__ import annotations

import fvd
from fvd import options
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError

EXPECTED = "Expecting image file name and size"


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "resize",
        "Change the size of a disk",
        "[-f FMT] [--shrink] [-q] [--output human|json] [--trust DIR|URL] FILENAME [+|-]SIZE[bkKMGTPE]",
    )
    _common.quiet_option(parser)
    _common.output_option(parser)
    _common.format_option(parser, "-f", "--format")
    parser.switch("--shrink", help="let a smaller size delete what lies behind the new end of the disk")
    _common.trust_option(parser)
    parser.describe("FILENAME", "image file name; no other program may have it open")
    parser.describe(
        "SIZE", "new size of the disk, or with + or - by how much it changes;\nin bytes or with a suffix"
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    # A size that begins with a minus would look like an option. As in qemu-img, it is the last argument.
    minus = arguments[-1:] if arguments and _is_decrease(arguments[-1]) else []
    rest = arguments[: len(arguments) - len(minus)]
    wanted = 2 - len(minus)
    given = parser().parse(rest, wanted, wanted, EXPECTED)
    files: list[str] = given.files
    filename, text = [*files, *minus]
    as_json = _common.wants_json(given, "resize")
    size = _new_size(filename, text, given.format)
    fvd.amend(
        filename,
        format=_common.source_format(given.format),
        shrink=given.shrink,
        trust=_common.trusted(given),
        size=size,
    )
    if not given.quiet:
        result = {"filename": filename, "size": -(-size // 512) * 512}
        _output.write(_output.json_document(result) if as_json else "Image resized.\n")
    return 0


def _is_decrease(text: str) -> bool:
    try:
        options.parse_size(text[1:])
    except ValueError:
        return False
    return text.startswith("-")


def _new_size(filename: str, text: str, format: str | None) -> int:
    sign = text[:1] if text[:1] in "+-" else ""
    amount = options.size_argument("image size", text.removeprefix(sign))
    if not sign:
        return amount
    now = fvd.info(filename, format=_common.source_format(format)).get("virtual-size", 0)
    size = now + amount if sign == "+" else now - amount
    if size <= 0:
        raise CommandError(f"{filename}: New image size must be positive")
    if size > options.MAX_SIZE:
        raise CommandError(f"{filename}: New image size must be below 2^63")
    return size
