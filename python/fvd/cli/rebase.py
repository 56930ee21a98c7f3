"""`fvd rebase`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd.cli import _common, _moving, _output, _progress, _signals
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "rebase",
        "Give an image another base, and keep its content",
        "[-f FMT] [-t CACHE] [-r RATE] [-u] -b BACKING [-F FMT] [-p] [-q] [--output human|json]\n"
        "        [--trust DIR|URL] [--base-url FILE] FILENAME",
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
        help="cache mode (default writeback): writeback, writethrough, none, directsync or unsafe",
    )
    _moving.rate_option(parser)
    parser.switch(
        "-u", "--name-only", help="only change the name: BACKING has the same content as the base now"
    )
    parser.option("-b", "-B", "--backing", metavar="BACKING", help="the new base; '': none")
    _common.format_option(parser, "-F", "--backing-format", what="BACKING", dest="backing_format")
    _common.trust_option(parser)
    _common.base_url_option(parser)
    parser.describe("FILENAME", "image file name; no other program may have it open")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    (filename,) = given.files
    if given.backing is None:
        raise CommandError("Use -b to name the new backing file; -b '' removes it")
    if not given.backing and given.backing_format:
        raise CommandError("A backing format needs a backing file (-b)")
    backing_format = _common.source_format(given.backing_format)
    _common.warn_of_format(filename, given.backing or None, backing_format, "-F")
    as_json = _common.wants_json(given, "rebase")
    cache = _common.cache_mode(given.cache, "cache")
    rate_limit = _moving.rate_limit(given)
    shown = _progress.Progress(given, "rebase")
    count = _moving.Count(shown.callback)
    try:
        with _signals.Terminable(), shown:
            result = _core.rebase(
                filename,
                given.backing or None,
                backing_format=backing_format,
                format=_common.source_format(given.format),
                name_only=given.name_only,
                cache=cache,
                rate_limit=rate_limit,
                trust=_common.trusted(given),
                remote=_common.remote(given),
                progress=count.update,
            )
    except (KeyboardInterrupt, _signals.Terminated):
        count.say_stopped("rebase", filename, "it has a part of the data of its base")
        raise
    if as_json and not given.quiet:
        _output.write(_output.json_document(result))
    return 0
