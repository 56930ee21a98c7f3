"""`fvd info`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._output import human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import ImageInfo


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "info",
        "Display information about an image",
        "[-f FMT] [-b] [-U] [--output human|json] [--trust DIR] FILENAME",
    )
    _common.format_option(parser, "-f", "--format")
    _common.chain_option(parser)
    _common.share_option(parser)
    _common.output_option(parser)
    _common.trust_option(parser)
    parser.describe("FILENAME", "image file name")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "info")
    format = _common.source_format(given.format)
    if given.backing_chain:
        chain = fvd.info(
            given.files[0],
            format=format,
            force_share=given.force_share,
            backing_chain=True,
            trust=_common.trusted(given),
        )
        document: object = chain
    else:
        document = fvd.info(given.files[0], format=format, force_share=given.force_share)
        chain = [document]
    if as_json:
        _output.write(_output.json_document(document))
    else:
        _output.write("\n".join(human(image) for image in chain))
    return 0


def human(image: ImageInfo) -> str:
    """Return what people read about one image, laid out as qemu-img does."""
    size = image["virtual-size"]
    lines = [
        f"image: {printable(image['filename'])}",
        f"file format: {printable(image['format'])}",
        f"virtual size: {human_size(size)} ({size} bytes)",
        f"disk size: {human_size(image['actual-size']) if 'actual-size' in image else 'unavailable'}",
    ]
    if image.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "cluster-size" in image:
        lines.append(f"cluster_size: {image['cluster-size']}")
    lines += _backing(image)
    specific = image.get("format-specific", {}).get("data")
    if specific:
        lines += ["Format specific information:", *_output.nested(specific, 4)]
    return "\n".join(lines) + "\n"


def _backing(image: ImageInfo) -> list[str]:
    if "backing-filename" not in image:
        return []
    name = image["backing-filename"]
    full = image.get("full-backing-filename")
    line = f"backing file: {printable(name)}"
    if full is None:
        line += " (cannot determine actual path)"
    elif full != name:
        line += f" (actual path: {printable(full)})"
    if "backing-filename-format" not in image:
        return [line]
    return [line, f"backing file format: {printable(image['backing-filename-format'])}"]
