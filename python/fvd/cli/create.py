"""`fvd create`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._sizes import size_argument
from fvd.cli import _common, _output, _signals
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given
    from fvd.types import CreateResult, OptionValue, TargetFormat


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "create",
        "Create and format a new image file",
        "[-f FMT] [-o OPTIONS] [-b BACKING [-F BACKING_FMT]] [-u] [-q] [--output human|json]\n"
        "        [--force] "
        "[--trust DIR|URL] FILENAME [SIZE[bkKMGTPE]]",
    )
    _common.quiet_option(parser)
    _common.output_option(parser)
    parser.option(
        "-f",
        "--format",
        metavar="FMT",
        default="fvd",
        help="format of the new image: fvd (default) or raw",
    )
    _common.repeatable_options(parser)
    parser.option("-b", "--backing", metavar="BACKING", help="stack the new image on top of BACKING")
    _common.format_option(parser, "-F", "--backing-format", what="BACKING", dest="backing_format")
    parser.switch("-u", "--backing-unsafe", help="do not open BACKING; SIZE is needed")
    _common.force_option(parser)
    _common.trust_option(parser)
    parser.describe("FILENAME", "image file to create; a file that is there is replaced")
    parser.describe(
        "SIZE", "size of the disk, with an optional suffix (multiples of 1024);\ndefault: as BACKING"
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 0, 2, "Expecting image file name")
    format = _common.target_format(given.format)
    if _common.option_help_asked(given.options, format):
        return 0
    if not given.files:
        # Checked only now, because `-o help` needs no file name.
        parser().parse(arguments, 1, 2, "Expecting image file name")
    filename = given.files[0]
    as_json = _common.wants_json(given, "create")
    values = _option_values(filename, given.options, format)
    with _signals.Terminable():
        result = _create(given, format, values)
    if as_json and not given.quiet:
        _output.write(_output.json_document(result))
    elif not given.quiet:
        _output.remark(formatting_line(result))
        for directory in result["needs_trust"]:
            _output.complain(
                f"fvd: note: '{filename}' names a URL, or a file outside its own directory, or a hidden one: "
                f"opening it needs --trust {directory}"
            )
    return 0


def _option_values(filename: str, texts: list[str], format: str) -> dict[str, OptionValue]:
    """Return the values of `-o`. Without any, the module that parses them is not imported."""
    if not texts:
        return {}
    from fvd import options

    try:
        return options.parse_options(texts, format)
    except options.OptionError as error:
        listed = str(error).startswith("Invalid option list")
        raise CommandError(str(error) if listed else f"{filename}: {error}{_later(error)}") from None


def _later(error: ValueError) -> str:
    """Return advice about an option that can only be set on an existing image; empty for other options."""
    from fvd.amendable import is_attribute

    name = str(error).removeprefix("Invalid parameter '").removesuffix("'")
    return " ('fvd amend -o' sets it, once the image exists)" if is_attribute(name) else ""


def _create(given: Given, format: TargetFormat, values: dict[str, OptionValue]) -> CreateResult:
    filename = given.files[0]
    size = _size(filename, given.files[1:], values)
    # As in qemu-img, -b and -F override the same options in -o.
    backing_file = given.backing or values.pop("backing_file", None)
    backing_format = given.backing_format or values.pop("backing_fmt", None)
    for name in ("backing_file", "backing_fmt"):
        values.pop(name, None)
    if backing_file is not None and format == "raw":
        raise CommandError(f"{filename}: Backing file not supported for file format 'raw'")
    if backing_file == "":
        raise CommandError(f"{filename}: Expected backing file name, got empty string")
    if backing_format is not None and backing_file is None:
        raise CommandError(f"{filename}: A backing format needs a backing file (-b)")
    if size is None and (backing_file is None or given.backing_unsafe):
        raise CommandError(f"{filename}: Image creation needs a size parameter")
    _common.warn_of_format(filename, backing_file, backing_format, "-F")
    return _core.create(
        filename,
        size,
        format=format,
        backing_file=cast("str | None", backing_file),
        backing_format=_common.source_format(cast("str | None", backing_format)),
        backing_unsafe=given.backing_unsafe,
        options=values,
        force=given.force,
        trust=_common.trusted(given),
    )


def _size(filename: str, texts: list[str], values: dict[str, OptionValue]) -> int | None:
    from_option = cast("int | None", values.pop("size", None))
    if not texts:
        return from_option
    if from_option is not None:
        raise CommandError(f"{filename}: The image size must be specified only once")
    return size_argument("image size", texts[0])


def formatting_line(result: CreateResult) -> str:
    """Return the line about the created image, as qemu-img writes it."""
    from fvd.options import escape

    settings = {"fmt": result["format"], "size": result["size"], **result["options"]}
    shown = " ".join(f"{name}={_output.printable(escape(it))}" for name, it in settings.items())
    return f"Formatting '{_output.printable(result['filename'])}', {shown}\n"
