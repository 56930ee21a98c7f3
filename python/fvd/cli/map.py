"""`fvd map`."""

from __future__ import annotations

import fvd
from fvd import options
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser, UsageError
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fvd.cli._arguments import Given
    from fvd.types import Extent

FORMS = ("human", "json", "svg", "html")


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "map",
        "Show where the data of a disk lies",
        "[-f FMT] [-s OFFSET] [-l LENGTH] [-U]\n        [--output human|json|svg|html]"
        "        [--trust DIR|URL] [--base-url FILE] FILENAME",
    )
    _common.format_option(parser, "-f", "--format")
    parser.option("-s", "--start-offset", metavar="OFFSET", help="begin at this byte of the disk")
    parser.option("-l", "--max-length", metavar="LENGTH", help="show no more than this many bytes")
    _common.share_option(parser)
    parser.option(
        "--output",
        metavar="human|json|svg|html",
        default="human",
        help="output format: human (default), json, or a picture",
    )
    _common.trust_option(parser)
    _common.base_url_option(parser)
    parser.describe("FILENAME", "image file name")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    if given.output not in FORMS:
        raise UsageError(f"--output expects {', '.join(FORMS)}, not '{given.output}'", "map")
    start, length = given.start_offset, given.max_length
    extents = fvd.map(
        given.files[0],
        format=_common.source_format(given.format),
        start=0 if start is None else options.size_argument("start offset", start),
        length=None if length is None else options.size_argument("max length", length),
        force_share=given.force_share,
        trust=_common.trusted(given),
        remote=_common.remote(given),
    )
    if given.output in ("svg", "html"):
        lines = _picture(given, extents)
    else:
        lines = json_lines(extents) if given.output == "json" else table(extents)
    for line in lines:
        _output.write(line)
    return 0


def _picture(given: Given, extents: Iterable[Extent]) -> Iterator[str]:
    from fvd.cli import _picture

    path, share = given.files[0], given.force_share
    info = fvd.info(path, format=_common.source_format(given.format), force_share=share)
    start = options.size_argument("start offset", given.start_offset or "0")
    end = info.get("virtual-size", 0)
    if given.max_length is not None:
        end = min(end, start + options.size_argument("max length", given.max_length))
    grid = _picture.Grid(start, end)
    grid.add(extents)
    entries = [] if info["format"] != "fvd" else fvd.profile(path, force_share=share)["entries"]
    draw = _picture.page if given.output == "html" else _picture.svg
    return draw(path, grid, [(offset, length) for offset, length in entries])


def table(extents: Iterable[Extent]) -> Iterator[str]:
    """Yield the lines of the table of extents with storage, in the layout of qemu-img."""
    yield f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n"
    for extent in extents:
        if not extent["data"] or extent["zero"]:
            continue
        if "offset" not in extent:
            raise CommandError("File contains external, encrypted or compressed clusters.")
        numbers = (extent["start"], extent["length"], extent["offset"])
        columns = "".join(f"{_output.hexadecimal(number):<16}" for number in numbers)
        yield f"{columns}{_output.printable(extent.get('filename', ''))}\n"


def json_lines(extents: Iterable[Extent]) -> Iterator[str]:
    """Yield the pieces of a JSON array with one extent on each line, in the layout of qemu-img."""
    separator = "["
    for extent in extents:
        fields = [
            f'"start": {extent["start"]}',
            f'"length": {extent["length"]}',
            f'"depth": {extent["depth"]}',
            f'"present": {_output.scalar(extent["present"])}',
            f'"zero": {_output.scalar(extent["zero"])}',
            f'"data": {_output.scalar(extent["data"])}',
            f'"compressed": {_output.scalar(extent["compressed"])}',
        ]
        if "offset" in extent:
            fields.append(f'"offset": {extent["offset"]}')
        yield f"{separator}{{ {', '.join(fields)}}}"
        separator = ",\n"
    yield "[]\n" if separator == "[" else "]\n"
