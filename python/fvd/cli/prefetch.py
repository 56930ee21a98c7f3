"""`fvd prefetch`."""

from __future__ import annotations

import contextlib
import time

import fvd
from fvd.cli import _common, _moving, _output, _prefetch_progress, _signals
from fvd.cli._arguments import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import PrefetchStatus


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "prefetch",
        "Fetch everything that an image still needs from its base",
        "[-p] [-q] [--output human|json] [-T CACHE] [-r RATE] [--write-base]\n"
        "        [--base-error=wait|report] [--base-timeout SECONDS] [--trust DIR|URL]\n"
        "        [--base-url FILE] [--cache-dir DIR] FILENAME",
    )
    _common.quiet_option(parser)
    _common.output_option(parser)
    _prefetch_progress.options(parser)
    parser.option(
        "-T",
        "--cache",
        metavar="CACHE",
        default="writeback",
        help="cache mode (default writeback): writeback, writethrough, none, directsync or unsafe",
    )
    _moving.rate_option(parser)
    parser.switch("--write-base", help="allow an image that writes to its base to do so")
    _common.base_options(parser)
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.describe("FILENAME", "image file name")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "prefetch")
    cache = _common.cache_mode(given.cache, "cache")
    rate_limit = _moving.rate_limit(given)
    display = _prefetch_progress.display(given, "prefetch")
    started = time.monotonic()
    image = fvd.open(
        given.files[0],
        "r+",
        cache=cache,
        write_base=given.write_base,
        base_error=_common.base_error(given),
        base_timeout=_common.base_timeout(given),
        trust=_common.trusted(given),
        cache_dir=given.cache_dir,
        remote=_common.remote(given),
    )
    try:
        with _signals.Terminable(), display:
            status = image.prefetch(progress=display.callback, rate_limit=rate_limit)
    except BaseException:
        # The first error is the one to report.
        with contextlib.suppress(fvd.FvdError):
            image.close()
        raise
    image.close()
    elapsed_s = time.monotonic() - started
    if not given.quiet:
        _output.write(_output.json_document(status) if as_json else summary(status, elapsed_s))
    return 0


def summary(status: PrefetchStatus, elapsed_s: float) -> str:
    """Return a readable summary."""
    from fvd.cli._output import human_size

    if not status["total"]:
        return "Nothing to fetch: the image needs no base.\n"
    rate = human_size(int(status["fetched"] / elapsed_s)) if elapsed_s > 0 else "-"
    zeros = f" and passed over {human_size(status['zeros'])} of zeros" if status["zeros"] else ""
    return (
        f"Fetched {human_size(status['fetched'])} in {elapsed_s:.1f} s ({rate}/s){zeros}; "
        "every block is local now, and the base is not needed any more.\n"
    )
