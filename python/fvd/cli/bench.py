"""`fvd bench`."""

from __future__ import annotations

from fvd import _sizes
from fvd.cli import _bench_load, _common, _output
from fvd.cli._arguments import Option, Parser
from fvd.cli._bench_load import Outcome, Plan
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given

MAX = 2**31 - 1
AIO = ("threads", "native", "io_uring")


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        "bench",
        "Measure how fast an image is read or written",
        "[-c COUNT] [-d DEPTH] [-s SIZE] [-o OFFSET] [-S STEP]\n"
        "        [--random[=SEED]] [-t CACHE] [-w [--pattern BYTE]\n"
        "        [--flush-interval N [--no-drain]]] [--output human|json] [-q] [-U]\n"
        "        [-f fvd] [-i AIO] [-n] [--trust DIR|URL] [--base-url FILE]\n"
        "        [--cache-dir DIR] FILENAME",
    )
    _common.quiet_option(parser)
    _load_options(parser)
    parser.option(
        "-t",
        "--cache",
        metavar="CACHE",
        default="writeback",
        help="cache mode (default writeback): writeback, writethrough, none,\ndirectsync or unsafe",
    )
    _common.output_option(parser)
    _common.share_option(parser)
    parser.option("-f", "--format", metavar="FMT", default="fvd", help="format of FILENAME: fvd, no other")
    parser.option(
        "-i", "--aio", metavar="AIO", help="accepted for qemu-img's sake; fvd takes the best there is"
    )
    parser.switch("-n", "--native", help="accepted for qemu-img's sake, as -i")
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.describe("FILENAME", "image file; -w overwrites what is in it")
    return parser


def _load_options(parser: Parser) -> None:
    parser.option("-c", "--count", metavar="COUNT", help="number of requests (default 75000)")
    parser.option("-d", "--depth", metavar="DEPTH", help="requests in flight at a time (default 64)")
    parser.option("-s", "--buffer-size", metavar="SIZE", help="size of each request (default 4k)")
    parser.option("-o", "--offset", metavar="OFFSET", help="byte of the disk where the first request begins")
    parser.option(
        "-S", "--step-size", metavar="STEP", help="bytes from one request to the next (default: SIZE)"
    )
    parser.add(Option("random", "a value after ="), "--random")
    parser.describe(
        "--random[=SEED]",
        "send them to random places, a multiple of STEP after OFFSET; the same\nfor the same SEED",
    )
    parser.switch("-w", "--write", help="write; without it, read")
    parser.option("--pattern", metavar="BYTE", help="write this byte, 0 to 255 (default 0)")
    parser.option("--flush-interval", metavar="N", help="with -w: flush after each N requests")
    parser.switch("--no-drain", help="do not wait for requests in flight before a flush")


def run(arguments: list[str]) -> int:
    """Run this command and return its exit status."""
    given = parser().parse(arguments, 1, 1, "Expecting one image file name")
    as_json = _common.wants_json(given, "bench")
    cache = _common.cache_mode(given.cache, "cache")
    plan = _plan(given)
    outcome = _bench_load.run(
        given.files[0],
        plan,
        "" if given.quiet or as_json else begin_lines(plan),
        cache=cache,
        force_share=given.force_share,
        trust=_common.trusted(given),
        cache_dir=given.cache_dir,
        remote=_common.remote(given),
    )
    if not given.quiet:
        _output.write(_output.json_document(document(plan, outcome)) if as_json else end_lines(plan, outcome))
    return 0


def _plan(given: Given) -> Plan:
    plan = Plan()
    plan.count = _number("request count", given.count, 1, plan.count)
    plan.depth = _number("queue depth", given.depth, 1, plan.depth)
    plan.size = _size("buffer size", given.buffer_size, 1, plan.size)
    plan.offset = _size("offset", given.offset, 0, plan.offset, _sizes.MAX_SIZE)
    plan.step = _size("step size", given.step_size, 0, 0)
    plan.pattern = _number("pattern byte", given.pattern, 0, plan.pattern, 0xFF)
    plan.flush_interval = _number("flush interval", given.flush_interval, 0, plan.flush_interval)
    plan.writes, plan.drains = given.write, not given.no_drain
    if given.random is not None:
        plan.seed = _seed(given.random)
    if given.aio is not None and given.aio not in AIO:
        raise CommandError(f"Invalid aio option: {given.aio}")
    if given.format != "fvd":
        _common.source_format(given.format)
        raise CommandError(
            f"Only fvd images are measured, not {given.format}: 'qemu-img bench' measures this one, and "
            "'fvd create -b' makes an image of it"
        )
    if plan.flush_interval and not plan.writes:
        raise CommandError("--flush-interval is only available in write tests")
    if 0 < plan.flush_interval < plan.depth:
        raise CommandError("Flush interval can't be smaller than depth")
    return plan


def _number(what: str, text: str | None, least: int, default: int, most: int = MAX) -> int:
    """Return the number in `text`, decimal or hexadecimal."""
    if text is not None and not _sizes.consists_of("0123456789abcdefABCDEFxX", text.lstrip("-")):
        raise CommandError(f"Invalid {what} specified: '{text}'.")
    return _size(what, text, least, default, most)


def _size(what: str, text: str | None, least: int, default: int, most: int = MAX) -> int:
    """Return the number of bytes in `text`, which may have a suffix for its unit."""
    if text is None:
        return default
    try:
        value = _sizes.parse_size(text)
    except _sizes.SizeSyntaxError:
        raise CommandError(f"Invalid {what} specified: '{text}'.") from None
    except _sizes.SizeRangeError:
        value = -1
    if not least <= value <= most:
        raise CommandError(f"Invalid {what} specified. Must be between {least} and {most}.")
    return value


def _seed(text: object) -> int:
    """Return the seed; a new one if none is given."""
    if text is True:
        import time

        return time.time_ns() % MAX
    return _number("seed", str(text), 0, 0)


def begin_lines(plan: Plan) -> str:
    """Return the lines of qemu-img about what is sent."""
    kind = "write" if plan.writes else "read"
    where = f"starting at offset {plan.offset}, step size {plan.stride}"
    if plan.seed is not None:
        where = f"at random offsets from {plan.offset}, step size {plan.stride}, seed {plan.seed}"
    line = (
        f"Sending {plan.count} {kind} requests, {plan.size} bytes each, {plan.depth} in parallel ({where})\n"
    )
    if not plan.flush_interval:
        return line
    return f"{line}Sending flush every {plan.flush_interval} requests\n"


def end_lines(plan: Plan, outcome: Outcome) -> str:
    """Return the line of qemu-img about the time, and one about the times of the requests."""
    latency = document(plan, outcome)["latency-us"]
    assert isinstance(latency, dict)
    times = ", ".join(f"{name} {value} us" for name, value in latency.items())
    return f"Run completed in {outcome.nanoseconds / 1e9:.3f} seconds.\nLatency: {times}\n"


def document(plan: Plan, outcome: Outcome) -> dict[str, object]:
    """Return the result as JSON has it."""
    seconds = outcome.nanoseconds / 1e9
    times = outcome.latencies
    return {
        "operation": "write" if plan.writes else "read",
        "count": plan.count,
        "buffer-size": plan.size,
        "depth": plan.depth,
        "offset": plan.offset,
        "step-size": plan.stride,
        "seed": plan.seed,
        "flush-interval": plan.flush_interval,
        "seconds": round(seconds, 6),
        "requests-per-second": round(plan.count / seconds, 1) if seconds else None,
        "latency-us": {
            "p50": times.percentile(50) / 1000,
            "p99": times.percentile(99) / 1000,
            "max": times.most / 1000,
        },
    }
