"""`fvd info`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._output import human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fvd.types import DiskStats, ImageInfo, Snapshot


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "info",
        "Display information about an image",
        "[-f FMT] [-b] [-U] [-v] [--stats] [--output human|json] [--trust DIR|URL]\n"
        "        [--base-url FILE] FILENAME",
    )
    _common.format_option(parser, "-f", "--format")
    _common.chain_option(parser)
    _common.share_option(parser)
    parser.switch("-v", "--verbose", help="also what is as in every new image, and numbers as they are")
    parser.switch("--stats", help="also how much is local, and what the sessions of the image have done")
    _common.output_option(parser)
    _common.trust_option(parser)
    _common.base_url_option(parser)
    parser.describe("FILENAME", "image file name")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "info")
    if given.stats and given.backing_chain:
        raise _common.CommandError("--stats is for one image, without --backing-chain")
    format = _common.source_format(given.format)
    if given.backing_chain:
        chain = fvd.info(
            given.files[0],
            format=format,
            force_share=given.force_share,
            backing_chain=True,
            trust=_common.trusted(given),
            remote=_common.remote(given),
        )
        document: object = chain
    else:
        document = fvd.info(given.files[0], format=format, force_share=given.force_share)
        chain = [document]
        if given.stats:
            stats = _stats(given.files[0], document, force_share=given.force_share)
            document = {**document, "stats": stats}
    if as_json:
        _output.write(_output.json_document(document))
    else:
        _output.write("\n".join(human(image, verbose=given.verbose) for image in chain))
        if given.stats:
            _output.write(human_stats(stats))
        elif not given.backing_chain:
            _output.write(_local(given.files[0], chain[0], force_share=given.force_share))
    return 0


def _stats(path: str, image: ImageInfo, *, force_share: bool) -> DiskStats:
    if image["format"] != "fvd":
        raise _common.CommandError(f"'{path}' is a {image['format']} image: only fvd images have --stats")
    return fvd.stats(path, force_share=force_share)


def _local(path: str, image: ImageInfo, *, force_share: bool) -> str:
    """Return a line about what an overlay has of its base; empty for others, or if that cannot be read."""
    if image["format"] != "fvd" or "backing-filename" not in image:
        return ""
    try:
        return human_local(fvd.stats(path, force_share=force_share)) + "\n"
    except fvd.FvdError:
        return ""


def human_local(stats: DiskStats) -> str:
    """Return the line about the local part of an image."""
    base, local = stats["base-bytes"], stats["local-bytes"]
    if not base:
        return "local: everything"
    return f"local: {human_size(local)} of {human_size(base)} ({100 * local / base:.1f}%)"


def human_stats(stats: DiskStats) -> str:
    """Return the readable output about the local part of an image and the counters of its sessions."""
    lines = [human_local(stats)]
    lines.append("Totals of all sessions:")
    for name, value in stats["totals"].items():
        size = f" ({human_size(value)})" if value >= 1024 and "bytes" in name else ""
        lines.append(f"    {name.replace('-', ' ')}: {value}{size}")
    return "\n".join(lines) + "\n"


def human(image: ImageInfo, *, verbose: bool = False) -> str:
    """Return the readable output about one image, in the layout of qemu-img."""
    size = image.get("virtual-size")
    lines = [
        f"image: {printable(image['filename'])}",
        f"file format: {printable(image['format'])}",
        "virtual size: unknown" if size is None else f"virtual size: {human_size(size)} ({size} bytes)",
        f"disk size: {human_size(image['actual-size']) if 'actual-size' in image else 'unavailable'}",
    ]
    if image.get("encrypted"):
        lines.append("encrypted: yes")
    if "cluster-size" in image:
        lines.append(f"cluster_size: {image['cluster-size']}")
    if image.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    lines += _backing(image)
    lines += _snapshots(image.get("snapshots", []))
    specific = image.get("format-specific", {}).get("data")
    if specific and image["format"] == "fvd" and not verbose:
        from fvd.cli import _fvd_fields

        specific = _fvd_fields.shown(specific)
    if specific:
        lines += ["Format specific information:", *_output.nested(specific, 4)]
    return "\n".join(lines) + "\n"


def _snapshots(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    import time

    heading = (
        "Snapshot list:\nID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT"
    )
    for snapshot in snapshots:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot["date-sec"]))
        seconds, milliseconds = snapshot["vm-clock-sec"], snapshot["vm-clock-nsec"] // 1_000_000
        clock = f"{seconds // 3600:04}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"
        names = f"{printable(snapshot['id']):<7} {printable(snapshot['name']):<16}"
        size, icount = human_size(snapshot["vm-state-size"]), snapshot.get("icount", "--")
        if heading:
            yield heading
            heading = ""
        yield f"{names} {size:>8} {date:>19} {clock:>15} {icount:>10}"


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
