"""`fvd check`."""

from __future__ import annotations

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser, UsageError
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import CheckResult

CLEAN = 0
NOT_CHECKED = 1
CORRUPT = 2
LEAKS_ONLY = 3
NOT_SUPPORTED = 63


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "check",
        "Check the metadata of an image, and repair it",
        "[-f FMT] [-r leaks|all] [-b] [-U] [-q] [--output human|json]\n        [--trust DIR|URL] FILENAME",
    )
    _common.quiet_option(parser)
    _common.format_option(parser, "-f", "--format")
    parser.option("-r", "--repair", metavar="leaks|all", help="repair leaked chunks only, or everything")
    _common.chain_option(parser)
    _common.share_option(parser)
    _common.output_option(parser)
    _common.trust_option(parser)
    parser.describe("FILENAME", "image file name")
    parser.describe(
        "Exit status",
        "0: clean, 1: could not check, 2: corrupt, 3: leaked chunks only,\n"
        "63: the format has no checks; after a repair what remains counts",
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "check")
    if given.repair not in (None, "leaks", "all"):
        raise UsageError(f"--repair (-r) expects 'leaks' or 'all' not '{given.repair}'", "check")
    if given.repair and given.force_share:
        raise CommandError("An image that is repaired cannot be shared: use either -r or -U")
    try:
        result = fvd.check(
            given.files[0],
            format=_common.source_format(given.format),
            repair=given.repair,
            force_share=given.force_share,
            backing_chain=given.backing_chain,
            trust=_common.trusted(given) if given.backing_chain else (),
        )
    except fvd.UnsupportedError as error:
        _output.complain(f"fvd: {error.strerror or error}")
        return NOT_SUPPORTED
    if as_json:
        _output.write(_output.json_document(document(result)))
    elif not given.quiet:
        _output.write(human(result))
    return exit_status(result)


def exit_status(result: CheckResult) -> int:
    """Return the exit status for the problems that the image still has."""
    if result["check-errors"]:
        return NOT_CHECKED
    if result["corruptions"] or result["suspect"]:
        return CORRUPT
    return LEAKS_ONLY if result["leaks"] else CLEAN


LEFT_OUT_WHEN_ZERO = ("corruptions", "leaks", "corruptions-fixed", "leaks-fixed")


def document(result: CheckResult) -> dict[str, object]:
    """Return the result without counts that are zero, which qemu-img leaves out, too."""
    return {name: value for name, value in result.items() if value or name not in LEFT_OUT_WHEN_ZERO}


def human(result: CheckResult) -> str:
    """Return the readable output, in qemu-img's words."""
    text = "".join(f"{_output.printable(message)}\n" for message in result["messages"])
    if result["corruptions-fixed"] or result["leaks-fixed"]:
        text += (
            "The following inconsistencies were found and repaired:\n\n"
            f"    {result['leaks-fixed']} leaked clusters\n"
            f"    {result['corruptions-fixed']} corruptions\n\n"
            "Double checking the fixed image now...\n"
        )
    return text + _findings(result) + _usage(result)


def _findings(result: CheckResult) -> str:
    found = ""
    if result["corruptions"]:
        found += (
            f"\n{result['corruptions']} errors were found on the image.\n"
            "Data may be corrupted, or further writes to the image may corrupt it.\n"
        )
    if result["leaks"]:
        found += (
            f"\n{result['leaks']} leaked clusters were found on the image.\n"
            "This means waste of disk space, but no harm to data.\n"
        )
    if result["check-errors"]:
        found += f"\n{result['check-errors']} internal errors have occurred during the check.\n"
    if result["suspect"]:
        found += (
            "\nThe image was not closed and has no journal: its contents are suspect.\n"
            "Blocks written last may be missing from its metadata.\n"
        )
    return found or "No errors were found on the image.\n"


def _usage(result: CheckResult) -> str:
    text = ""
    total, allocated = result.get("total-clusters", 0), result.get("allocated-clusters", 0)
    if total and allocated:
        fragmented = result.get("fragmented-clusters", 0)
        text += (
            f"{allocated}/{total} = {100 * allocated / total:.2f}% allocated, "
            f"{100 * fragmented / allocated:.2f}% fragmented\n"
        )
    if result.get("image-end-offset"):
        text += f"Image end offset: {result['image-end-offset']}\n"
    return text
