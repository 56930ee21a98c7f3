"""`fvd publish`."""

from __future__ import annotations

from fvd import _publish
from fvd.cli import _common, _output, _progress, _signals
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given
    from fvd.types import PublishResult


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "publish",
        "Publish a disk as a template, in a store or a web server's folder",
        "[-f FMT] [--as-is] [--profile FILE] [--profile-only] [--force] [-U] [-p] [-q]\n"
        "        [--base-error=wait|report] [--base-timeout SECONDS] [--trust DIR|URL]\n"
        "        [--cache-dir DIR] SOURCE TARGET",
    )
    _common.quiet_option(parser)
    _progress.progress_options(parser)
    _common.format_option(parser, "-f", "--source-format", what="SOURCE", dest="source_format")
    parser.switch("--as-is", help="publish the bytes of the file, not of the disk in it")
    parser.option(
        "--profile",
        metavar="FILE",
        help="publish this boot profile, too: a file of 'fvd profile export', or an\n"
        "image that has a profile (default: that of SOURCE)",
    )
    parser.switch("--profile-only", help="publish the profile of SOURCE, and nothing else")
    parser.switch("--force", help="replace another template, or something else, of that name")
    parser.switch("-c", "--compress", help="refused: 'qemu-img convert -c' and --as-is do that")
    _common.share_option(parser)
    _common.base_options(parser)
    _common.trust_option(parser)
    _common.cache_dir_option(parser)
    parser.describe("SOURCE", "disk to publish: raw, qcow2 or fvd")
    parser.describe(
        "TARGET", "s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY, or a file that a web server\noffers"
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 2, 2, "Expecting a disk and the name of the template")
    _refuse_what_does_not_go_together(given)
    shown = _progress.Progress(given, "publish")
    with _signals.Terminable(), shown as progress:
        result = _publish.publish(
            given.files[0],
            given.files[1],
            source_format=_common.source_format(given.source_format),
            as_is=given.as_is,
            profile=given.profile,
            profile_only=given.profile_only,
            force=given.force,
            base_error=_common.base_error(given),
            base_timeout=_common.base_timeout(given),
            force_share=given.force_share,
            trust=_common.trusted(given),
            cache_dir=given.cache_dir,
            progress=progress.callback,
        )
    if not given.quiet:
        _output.write(summary(result, profile_only=given.profile_only))
    return 0


def _refuse_what_does_not_go_together(given: Given) -> None:
    if given.compress:
        raise CommandError(
            "fvd cannot compress (-c): make a file with "
            "'qemu-img convert -c -O qcow2 -o compression_type=zstd', and publish it with --as-is"
        )
    if given.as_is and given.source_format not in (None, "raw"):
        raise CommandError("--as-is publishes the bytes of a file, so -f has no effect")
    if given.profile_only and (given.as_is or given.source_format or given.profile is not None):
        raise CommandError(
            "--profile-only publishes the profile of SOURCE: no -f, --as-is or --profile with it"
        )


def summary(result: PublishResult, *, profile_only: bool) -> str:
    """Return a readable summary."""
    name = _output.printable(result["name"])
    lines = []
    if result["written"]:
        size, data = _output.human_size(result["size"]), _output.human_size(result["data"])
        lines.append(f"Published '{name}': {size}, of them {data} of data\n")
    elif not profile_only:
        lines.append(f"'{name}' is published already\n")
    lines.append(f"manifest: {result['manifest']}\n")
    if result["profile_entries"] is not None:
        lines.append(f"boot profile: {result['profile_entries']} entries\n")
    return "".join(lines)
