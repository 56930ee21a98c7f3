"""`fvd profile`."""

from __future__ import annotations

import fvd
from fvd._profile import to_text
from fvd.cli import _common, _output, _signals
from fvd.cli._arguments import Parser, UsageError
from fvd.cli._common import CommandError
from fvd.cli._output import hexadecimal, human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fvd.types import ImportedProfile, Profile

ACTIONS = {
    "show": ("FILENAME",),
    "export": ("FILENAME", "FILE"),
    "import": ("FILENAME", "FILE"),
    "clear": ("FILENAME",),
}
"""The actions, with the file names that each takes."""


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "profile",
        "Show, export, import or clear the prefetch profile of an image",
        "show [-U] [--output human|json] FILENAME\n"
        "  fvd profile export [-U] [-q] FILENAME FILE\n"
        "  fvd profile import [-q] FILENAME FILE\n"
        "  fvd profile clear [-q] FILENAME",
    )
    _common.quiet_option(parser)
    _common.share_option(parser)
    _common.output_option(parser)
    parser.describe("show", "show what a session needs of the base first, in that order")
    parser.describe("export", "write the profile to FILE, to be imported into other images")
    parser.describe("import", "replace the profile of FILENAME by the one in FILE")
    parser.describe("clear", "remove the profile; where one is to be recorded, the next session does that")
    parser.describe("FILENAME", "image file name; files that it names are not opened")
    parser.describe("FILE", "text file (JSON); export: - for standard output")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    expected = f"Expecting one of {', '.join(ACTIONS)}"
    given = parser().parse(arguments, 1, 3, expected)
    as_json = _common.wants_json(given, "profile")
    action, *files = given.files
    if action not in ACTIONS:
        raise UsageError(f"{expected}, not '{action}'", "profile")
    if len(files) != len(ACTIONS[action]):
        raise UsageError(f"{action}: Expecting {' and '.join(ACTIONS[action])}", "profile")
    if given.force_share and action in ("import", "clear"):
        raise CommandError(f"An image that is changed cannot be shared: use either {action} or -U")
    if action == "show":
        profile = fvd.profile(files[0], force_share=given.force_share)
        for line in [_output.json_document(profile)] if as_json else human(profile):
            _output.write(line)
        return 0
    said = _change(action, files, force_share=given.force_share)
    if said and not given.quiet:
        _output.remark(f"{said}\n")
    return 0


def _change(action: str, files: list[str], *, force_share: bool) -> str:
    if action == "clear":
        fvd.clear_profile(files[0])
        return "Cleared"
    image, file = files
    try:
        if action == "export" and file == "-":
            exported = fvd.profile(image, force_share=force_share)
            _output.write(to_text(exported))
            _note_emptiness(image, exported)
            return ""
        if action == "export":
            with _signals.Terminable():
                exported = fvd.export_profile(image, file, force_share=force_share)
            _note_emptiness(image, exported)
            return f"Exported {_amount(len(exported['entries']), exported['bytes'])}"
        imported = fvd.import_profile(image, file)
    except fvd.FvdError:
        raise
    except OSError as error:
        raise CommandError(f"Could not {action} '{file}': {error.strerror}") from None
    _note_what_is_missing(imported)
    return f"Imported {_amount(imported['entries'], imported['bytes'])}"


def _note_emptiness(image: str, exported: Profile) -> None:
    if not exported["entries"]:
        hint = "-o generate_prefetch_profile=on has the next session record one"
        _output.complain(f"fvd: note: the profile of '{printable(image)}' is empty ({hint})")


def _note_what_is_missing(imported: ImportedProfile) -> None:
    beyond, left_out = imported["beyond_disk"], imported["no_room"]
    if beyond:
        _output.complain(f"fvd: note: the disk is smaller: {beyond} entries were cut or left out")
    if left_out:
        _output.complain(f"fvd: note: the image has no more room: {left_out} entries were left out")


def human(profile: Profile) -> Iterator[str]:
    """Yield the lines that show a profile in readable form."""
    yield f"image: {printable(profile['filename'])}\n"
    if not profile["capacity"]:
        yield "profile: none, and no room for one\n"
        return
    yield f"room: {profile['capacity']} entries, in units of {profile['unit']} bytes\n"
    yield f"profile: {_amount(len(profile['entries']), profile['bytes'])}\n"
    if profile["recording"]:
        yield "recording: the next session records one\n"
    if profile["entries"]:
        yield f"{'Offset':<16}Length\n"
    for offset, length in profile["entries"]:
        yield f"{hexadecimal(offset):<16}{hexadecimal(length)}\n"


def _amount(entries: int, count: int) -> str:
    return f"{entries} entries, {human_size(count)} ({count} bytes)"
