"""`fvd dump`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._output import printable, scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fvd.types import BitmapRecord, Dump, JournalSector, TableRecord

PARTS = ("header", "table", "bitmap", "journal", "profile")


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "dump",
        "Show header, table, bitmap, journal and prefetch profile of an image",
        "[--header] [--table] [--bitmap] [--journal] [--profile] [-U]\n"
        "        [--output human|json] FILENAME",
    )
    for part in PARTS:
        parser.switch(f"--{part}", help=f"show the {part}; without any of these: everything")
    _common.share_option(parser)
    _common.output_option(parser)
    parser.describe("FILENAME", "image file name; files that it names are not opened")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "dump")
    parts = [part for part in PARTS if getattr(given, part)] or list(PARTS)
    metadata = fvd.dump(given.files[0], force_share=given.force_share)
    for part in metadata["truncated"]:
        _output.complain(f"fvd: note: the {part} is too long to show, this is its beginning")
    if as_json:
        document = {name: value for name, value in metadata.items() if name in ("filename", *parts)}
        _output.write(_output.json_document(document))
        return 0
    _output.write(f"image: {printable(metadata['filename'])}\n")
    for part in parts:
        for line in human(metadata, part):
            _output.write(f"{line}\n")
    return 0


def human(metadata: Dump, part: str) -> Iterator[str]:
    """Yield the lines that show one part in readable form."""
    if part == "header":
        yield "Header:"
        width = max((len(name) for name in metadata["header"]), default=0)
        for name, value in metadata["header"].items():
            yield f"    {name:<{width}}  {scalar(value)}".rstrip()
    elif part == "table":
        yield from _table(metadata["table"])
    elif part == "bitmap":
        yield from _bitmap(metadata["bitmap"])
    elif part == "journal":
        yield from _journal(metadata["journal"])
    else:
        yield from _profile(metadata["profile"])


def _table(runs: list[tuple[int, int, int]] | None) -> Iterator[str]:
    if runs is None:
        yield "Table: none (the image is not compact)"
        return
    yield f"Table: {sum(count for _, count, _ in runs)} chunks allocated"
    for first, count, storage in runs:
        yield f"    chunks {_range(first, count)} at storage chunks {_range(storage, count)}"


def _bitmap(runs: list[tuple[int, int]] | None) -> Iterator[str]:
    if runs is None:
        yield "Bitmap: none"
        return
    yield f"Bitmap: {sum(count for _, count in runs)} blocks local"
    for first, count in runs:
        yield f"    blocks {_range(first, count)}"


def _journal(sectors: list[JournalSector] | None) -> Iterator[str]:
    if sectors is None:
        yield "Journal: none"
        return
    yield f"Journal: {len(sectors)} sectors with records"
    for sector in sectors:
        for record in sector["records"]:
            yield f"    sector {sector['sector']}: {_record(record)}"


def _profile(entries: list[tuple[int, int]] | None) -> Iterator[str]:
    if entries is None:
        yield "Profile: none"
        return
    yield f"Profile: {len(entries)} entries"
    for offset, length in entries:
        yield f"    {length} units at byte {offset}"


def _record(record: TableRecord | BitmapRecord) -> str:
    if record["type"] == "bitmap":
        return f"disk sectors {_range(record['first_sector'], record['sectors'])} are local"
    entries = record["entries"]
    shown = " ".join("-" if entry is None else str(entry) for entry in entries)
    return f"chunks {_range(record['first'], len(entries))} at storage chunks {shown}"


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}..{first + count - 1}"
