"""`fvd update`: `fvd amend` with the syntax of the original driver's tool."""

from __future__ import annotations

import sys

from fvd import amendable, options
from fvd.cli import amend
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "update",
        "Change what an image says of itself, as with the original driver",
        "[-f FMT] [-u] [--shrink] [--write-base] [-q] [--trust DIR|URL] FILENAME ATTRIBUTE=VALUE...",
    )
    amend.common_options(parser)
    parser.describe("ATTRIBUTE=VALUE", "what to change, and to what; see 'fvd help amend'")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 2, sys.maxsize, "Expecting an image file name and ATTRIBUTE=VALUE")
    filename, *texts = given.files
    for text in texts:
        if "=" not in text:
            raise CommandError(f"{filename}: Expecting ATTRIBUTE=VALUE, not '{text}'")
    try:
        # In this syntax, a comma is part of the value.
        changes = amendable.parse_attributes([text.replace(",", ",,") for text in texts])
    except options.OptionError as error:
        raise CommandError(f"{filename}: {error}") from None
    return amend.apply(given, changes)
