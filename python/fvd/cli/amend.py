"""`fvd amend`."""

from __future__ import annotations

import fvd
from fvd import amendable, options
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given
    from fvd.types import Attributes, OptionValue


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "amend",
        "Change what an image says of itself, its size included",
        "-o OPTIONS [-f FMT] [-u] [--shrink] [--write-base] [-q] [--output human|json]\n"
        "[--trust DIR|URL] FILENAME",
    )
    _common.repeatable_options(parser, "what to change")
    common_options(parser)
    _common.output_option(parser)
    return parser


def common_options(parser: Parser) -> None:
    """Add the options that `update` has, too."""
    _common.quiet_option(parser)
    _common.format_option(parser, "-f", "--format")
    parser.switch(
        "--write-base", help="bring the backing file up to date first, where the image writes to it"
    )
    parser.switch(
        "-u", "--backing-unsafe", help="write the name of a base or data file without opening the file"
    )
    parser.switch("--shrink", help="let a smaller size delete what lies behind the new end of the disk")
    _common.trust_option(parser)
    parser.describe("FILENAME", "image file name; no other program may have it open")


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 0, 1, "Expecting one image file name")
    if options.wants_help(given.options):
        _output.write(amendable.attributes_help())
        return 0
    if not given.files:
        # Checked only now, because `-o help` needs no file name.
        parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "amend")
    if not given.options:
        raise CommandError("Must specify options (-o)")
    try:
        changes = amendable.parse_attributes(given.options)
    except options.OptionError as error:
        listed = str(error).startswith("Invalid option list")
        raise CommandError(str(error) if listed else f"{given.files[0]}: {error}") from None
    status = apply(given, changes)
    if as_json and not given.quiet:
        _output.write(_output.json_document({"filename": given.files[0], "changed": changes}))
    return status


def apply(given: Given, changes: dict[str, OptionValue]) -> int:
    """Apply the changes and return the exit status."""
    if given.write_base:
        with fvd.open(given.files[0], "r+", write_base=True, trust=_common.trusted(given)):
            pass
    known: Attributes = cast("Attributes", changes)
    fvd.amend(
        given.files[0],
        format=_common.source_format(given.format),
        shrink=given.shrink,
        backing_unsafe=given.backing_unsafe,
        trust=_common.trusted(given),
        **known,
    )
    return 0
