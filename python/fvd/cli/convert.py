"""`fvd convert`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd.cli import _common, _moving, _progress, _signals
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given
    from fvd.types import OptionValue, TargetFormat

STDIN, STDOUT = 0, 1
MAX_SPARSE_SIZE = 16 << 20
MAX_PARALLEL = 16


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "convert",
        "Copy one image to another, with format conversion",
        "[-f FMT] [-O FMT] [-o OPTIONS] [-B BACKING [-F FMT]] [-n] [-W]\n"
        "        [-S SIZE] [-t CACHE] [-T CACHE] [-U] [-r RATE] [-p] [-q] [--force] [--target-is-zero]\n"
        "        [--base-error=wait|report] [--base-timeout SECONDS] [--trust DIR|URL]\n"
        "        [--base-url FILE] [--cache-dir DIR] SOURCE TARGET",
    )
    _common.quiet_option(parser)
    _progress.progress_options(parser)
    _common.format_option(parser, "-f", "--source-format", what="SOURCE", dest="source_format")
    parser.option(
        "-O", "--target-format", metavar="FMT", default="raw", help="format of TARGET: raw (default) or fvd"
    )
    _common.repeatable_options(parser, "options of TARGET", "--target-options")
    parser.option("-B", "-b", "--backing", metavar="BACKING", help="stack TARGET on top of BACKING")
    _common.format_option(parser, "-F", "--backing-format", what="BACKING", dest="backing_format")
    parser.switch("-n", "--no-create", help="write into TARGET, which exists and is large enough")
    parser.switch("--target-is-zero", help="with -n: TARGET reads as zeros, which are then not written again")
    parser.option(
        "-S",
        "--sparse-size",
        metavar="SIZE",
        help="this many zeros in a row become a hole (default 4k); 0: none do",
    )
    _cache_options(parser)
    _common.share_option(parser)
    _moving.rate_option(parser)
    parser.switch("-W", "--oob-writes", help="allow writes out of order")
    parser.option(
        "-m",
        "--parallel",
        metavar="N",
        help=f"1 to {MAX_PARALLEL}; accepted for qemu-img's sake, fvd finds its own parallelism",
    )
    parser.switch("-c", "--compress", help="refused: neither raw nor fvd can be compressed")
    _common.force_option(parser)
    _common.base_options(parser)
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.describe(
        "SOURCE",
        "image to copy; - or /dev/stdin: a raw disk from standard input; a pipe that becomes an fvd\n"
        "image is stored next to TARGET first, which needs the room twice meanwhile",
    )
    parser.describe("TARGET", "image to write; - or /dev/stdout: a raw disk to standard output")
    return parser


def _cache_options(parser: Parser) -> None:
    for flags, dest, what, default in (
        (("-t", "--target-cache"), "cache", "TARGET", "unsafe"),
        (("-T", "--source-cache"), "source_cache", "SOURCE", "writeback"),
    ):
        parser.option(
            *flags,
            metavar="CACHE",
            dest=dest,
            default=default,
            help=f"cache mode of {what} (default {default}): writeback, writethrough, none,\n"
            "directsync or unsafe",
        )


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 0, 2, "Must specify image file name")
    target_format = _common.target_format(given.target_format)
    if _common.option_help_asked(given.options, target_format):
        return 0
    if len(given.files) < 2:
        raise CommandError("Must specify image file name")
    _refuse_what_does_not_go_together(given, target_format)
    _check_parallel(given.parallel)
    source, target = _stream(given.files[0], STDIN), _stream(given.files[1], STDOUT)
    source_format = _common.source_format(given.source_format)
    if source == STDIN and source_format not in (None, "raw"):
        raise CommandError(f"Standard input can only be read as raw, not as {source_format}")
    if target == STDOUT and target_format != "raw":
        raise CommandError(f"Only a raw disk can be written to standard output, not {target_format}")
    values = _option_values(given.options, target_format)
    if "size" in values:
        raise CommandError("The size of TARGET is that of SOURCE: 'size' cannot be given")
    backing_file, backing_format = _backing(given, values)
    _common.warn_of_format(given.files[1], backing_file, backing_format, "-F")
    sparse_size = _sparse_size(given.sparse_size)
    cache = _common.cache_mode(given.cache, "cache")
    source_cache = _common.cache_mode(given.source_cache, "source cache")
    trust = _common.trusted(given)
    shown = _progress.Progress(given, "convert", stdout_is_data=target == STDOUT)
    with _signals.Terminable(), shown as progress:
        _core.convert(
            source,
            target,
            source_format="raw" if source == STDIN else source_format,
            target_format=target_format,
            options=values,
            backing_file=backing_file,
            backing_format=_common.source_format(backing_format),
            sparse_size=sparse_size,
            no_create=given.no_create,
            out_of_order=given.oob_writes,
            force=given.force,
            target_is_zero=given.target_is_zero,
            cache=cache,
            source_cache=source_cache,
            base_error=_common.base_error(given),
            base_timeout=_common.base_timeout(given),
            force_share=given.force_share,
            rate_limit=_moving.rate_limit(given),
            trust=trust,
            cache_dir=given.cache_dir,
            remote=_common.remote(given),
            progress=progress.callback,
        )
    return 0


def _option_values(texts: list[str], format: str) -> dict[str, OptionValue]:
    """Return the values of `-o`. Without any, the module that parses them is not imported."""
    if not texts:
        return {}
    from fvd import options

    return options.parse_options(texts, format)


def _refuse_what_does_not_go_together(given: Given, target_format: TargetFormat) -> None:
    if given.compress:
        raise CommandError("Compression not supported for this file format")
    if given.options and given.no_create:
        raise CommandError("-o has no effect when skipping image creation")
    if given.target_is_zero and not given.no_create:
        raise CommandError("--target-is-zero requires use of -n flag")
    if given.backing and target_format == "raw":
        raise CommandError("Backing file not supported for file format 'raw'")


def _check_parallel(text: str | None) -> None:
    if text is None:
        return
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MAX_PARALLEL:
        raise CommandError(f"Invalid number of coroutines specified. Must be between 1 and {MAX_PARALLEL}.")


def _stream(name: str, descriptor: int) -> str | int:
    device = "/dev/stdin" if descriptor == STDIN else "/dev/stdout"
    return descriptor if name in ("-", device) else name


def _backing(given: Given, values: dict[str, OptionValue]) -> tuple[str | None, str | None]:
    named = (values.pop("backing_file", None), values.pop("backing_fmt", None))
    file, format = given.backing or named[0], given.backing_format or named[1]
    if file == "":
        raise CommandError("Expected backing file name, got empty string")
    if format is not None and file is None:
        raise CommandError("A backing format needs a backing file (-B)")
    return cast("str | None", file), cast("str | None", format)


def _sparse_size(text: str | None) -> int:
    if text is None:
        return 4096
    from fvd import _sizes

    what = "buffer size for sparse output"
    try:
        size = _sizes.parse_size(text)
    except _sizes.SizeSyntaxError:
        raise CommandError(f"Invalid {what} specified: '{text}'.") from None
    except _sizes.SizeRangeError:
        size = _sizes.MAX_SIZE
    if size % 512 or size > MAX_SPARSE_SIZE:
        raise CommandError(
            f"Invalid {what} specified. Valid sizes are multiples of 512 up to {MAX_SPARSE_SIZE}. "
            "Select 0 to disable sparse detection (fully allocates output)."
        )
    return size
