"""`fvd measure`."""

from __future__ import annotations

import sys

import fvd
from fvd.cli import _common, _output
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fvd.cli._arguments import Given
    from fvd.types import MeasuredFormat, MeasureResult, OptionValue


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "measure",
        "Calculate how large a new image can become",
        "[-O FMT] [-o OPTIONS] [--output human|json]\n"
        "        [-f FMT] [-U] [--trust DIR|URL] [--base-url FILE] [--cache-dir DIR]\n"
        "        (--size SIZE[bkKMGTPE] | FILENAME)",
    )
    parser.option(
        "-O",
        "--target-format",
        metavar="FMT",
        default="raw",
        help=f"format of the new image: {', '.join(_common.READABLE)} (default raw)",
    )
    _common.repeatable_options(parser)
    parser.option("-s", "--size", metavar="SIZE", help="measure an empty disk of that size")
    _common.format_option(parser, "-f", "--format")
    _common.share_option(parser)
    _common.output_option(parser)
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.describe("FILENAME", "measure a copy of this disk, as 'fvd convert' makes it")
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 0, sys.maxsize, "")
    as_json = _common.wants_json(given, "measure")
    format: MeasuredFormat = _common.source_format(given.target_format) or "raw"
    if _option_help_asked(given.options, format):
        return 0
    _check_source(given)
    result = _measured(given, format)
    _output.write(_output.json_document(result) if as_json else human(result))
    return 0


def human(result: MeasureResult) -> str:
    """Return the readable output, in the layout of qemu-img."""
    return f"required size: {result['required']}\nfully allocated size: {result['fully-allocated']}\n"


def _check_source(given: Given) -> None:
    if given.size is None and not given.files:
        raise CommandError("Either --size N or one filename must be specified.")
    if len(given.files) > 1:
        raise CommandError("At most one filename argument is allowed.")
    if given.size is not None and given.files:
        raise CommandError("--size N cannot be used together with a filename.")
    if given.format is not None and not given.files:
        raise CommandError("-f requires a filename argument.")


def _measured(given: Given, format: MeasuredFormat) -> MeasureResult:
    values: Any = _option_values(given.options, format)
    if "size" in values:
        raise CommandError("The size of the disk is that of FILENAME or --size: 'size' cannot be given")
    backing: dict[str, Any] = {}
    if format == "fvd":
        backing["backing_file"] = values.pop("backing_file", None)
        backing["backing_format"] = _common.source_format(values.pop("backing_fmt", None))
    from fvd.options import size_argument

    return fvd.measure(
        given.files[0] if given.files else None,
        size=None if given.size is None else size_argument("image size", given.size),
        source_format=_common.source_format(given.format),
        format=format,
        options=values,
        **backing,
        force_share=given.force_share,
        trust=_common.trusted(given),
        cache_dir=given.cache_dir,
        remote=_common.remote(given),
    )


def _option_values(texts: list[str], format: str) -> dict[str, OptionValue]:
    if not texts:
        return {}
    from fvd import options

    if format != "qcow2":
        return options.parse_options(texts, format)
    from fvd._qcow2_size import OPTIONS

    return options.parse_known(texts, {option.name: option for option in OPTIONS})


def _option_help_asked(texts: list[str], format: str) -> bool:
    """Print the help for `-o` if `-o help` was given, and tell whether it was."""
    if format != "qcow2":
        return _common.option_help_asked(texts, format)
    from fvd import options

    if not texts or not options.wants_help(texts):
        return False
    from fvd._qcow2_size import OPTIONS

    _output.write("Measured qcow2 options:\n" + "".join(f"{option.help()}\n" for option in OPTIONS))
    return True
