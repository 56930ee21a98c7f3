"""`fvd compare`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output, _progress
from fvd.cli._arguments import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import CompareResult


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "compare",
        "Check if two images have the same contents",
        "[-f FMT] [-F FMT] [-s] [-T CACHE] [-U] [-p] [-q]\n"
        "        [--base-error=wait|report] [--base-timeout SECONDS] [--trust DIR|URL]\n"
        "        [--base-url FILE] [--cache-dir DIR] FILENAME1 FILENAME2",
    )
    _common.quiet_option(parser)
    _progress.progress_options(parser)
    _common.format_option(parser, "-f", "--a-format", what="FILENAME1", dest="a_format")
    _common.format_option(parser, "-F", "--b-format", what="FILENAME2", dest="b_format")
    parser.switch("-s", "--strict", help="the sizes must be equal too")
    parser.option(
        "-T", "--cache", metavar="CACHE", default="writeback", help="cache mode (default writeback)"
    )
    _common.share_option(parser)
    _common.base_options(parser)
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.describe("FILENAME1, FILENAME2", "image files to compare")
    parser.describe("Exit status", "0: same contents, 1: they differ, 2 and above: could not compare")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 2, 2, "Expecting two image file names")
    cache = _common.cache_mode(given.cache, "source cache")
    a_format, b_format = _common.source_format(given.a_format), _common.source_format(given.b_format)
    trust = _common.trusted(given)
    with _progress.Progress(given, "compare") as progress:
        result = fvd.compare(
            given.files[0],
            given.files[1],
            a_format=a_format,
            b_format=b_format,
            strict=given.strict,
            cache=cache,
            base_error=_common.base_error(given),
            base_timeout=_common.base_timeout(given),
            force_share=given.force_share,
            trust=trust,
            cache_dir=given.cache_dir,
            remote=_common.remote(given),
            progress=progress.callback,
        )
    if not given.quiet:
        _output.write(verdict(result))
    return 0 if result["identical"] else 1


def verdict(result: CompareResult) -> str:
    """Return the result of the comparison, in qemu-img's words."""
    if result["reason"] == "size":
        return "Strict mode: Image size mismatch!\n"
    if result["reason"] == "status":
        return f"Strict mode: Offset {result['offset']} block status mismatch!\n"
    warning = "Warning: Image size mismatch!\n" if result["size_a"] != result["size_b"] else ""
    if result["identical"]:
        return f"{warning}Images are identical.\n"
    return f"{warning}Content mismatch at offset {result['offset']}!\n"
