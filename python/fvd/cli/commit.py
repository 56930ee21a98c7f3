"""`fvd commit`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _moving, _output, _progress, _signals
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "commit",
        "Write what an image has to its base, and empty the image",
        "[-f FMT] [-t CACHE] [-r RATE] [-d] [-p] [-q] [--output human|json] [--trust DIR|URL] FILENAME",
    )
    _common.quiet_option(parser)
    _common.output_option(parser)
    _progress.progress_options(parser)
    _common.format_option(parser, "-f", "--format")
    parser.option(
        "-t",
        "--cache",
        metavar="CACHE",
        default="writeback",
        help="cache mode (default writeback): writeback, writethrough, none, directsync or\n"
        "unsafe; the base is durable before FILENAME is emptied in any case",
    )
    _moving.rate_option(parser)
    parser.switch("-d", "--keep", help="do not empty FILENAME, which keeps its data")
    parser.option("-b", "--base", metavar="BASE", help="refused: only the base of FILENAME can be written to")
    _common.trust_option(parser)
    parser.describe(
        "FILENAME",
        "image file name; its base is raw or fvd; no other program may have one of them open, and no\n"
        "other image may depend on the base",
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    (filename,) = given.files
    if given.base is not None:
        raise CommandError(
            f"{filename}: -b is not supported: commit to its own base, then commit that one, or 'fvd rebase' "
            f"the image onto '{given.base}'"
        )
    as_json = _common.wants_json(given, "commit")
    cache = _common.cache_mode(given.cache, "cache")
    rate_limit = _moving.rate_limit(given)
    shown = _progress.Progress(given, "commit")
    count = _moving.Count(shown.callback)
    try:
        with _signals.Terminable(), shown:
            result = fvd.commit(
                filename,
                format=_common.source_format(given.format),
                keep=given.keep,
                cache=cache,
                rate_limit=rate_limit,
                trust=_common.trusted(given),
                progress=count.update,
            )
    except (KeyboardInterrupt, _signals.Terminated):
        count.say_stopped("commit", filename, "its base has a part of the data")
        raise
    if not given.quiet:
        _output.write(_output.json_document(result) if as_json else "Image committed.\n")
    return 0
