"""What commands have in common that move the data of a chain: a limit of the rate, and what a stop leaves."""

from __future__ import annotations

from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fvd.cli._arguments import Given, Parser


def rate_option(parser: Parser) -> None:
    """Add `-r`."""
    parser.option(
        "-r",
        "--rate",
        metavar="RATE",
        dest="rate_limit",
        help="most bytes per second, such as 20M; 0 (default): no limit",
    )


def rate_limit(given: Given) -> int | None:
    """Return the limit in bytes per second; None: there is none."""
    if given.rate_limit is None:
        return None
    from fvd import _sizes

    try:
        return _sizes.parse_size(given.rate_limit)
    except ValueError:
        raise CommandError(
            f"Invalid rate limit '{given.rate_limit}': expecting bytes per second, such as 20M"
        ) from None


class Count:
    """Passes on the progress, and remembers it."""

    def __init__(self, callback: Callable[[int, int], object] | None) -> None:
        """Pass it on to `callback`, if there is one."""
        self._callback = callback
        self._done, self._total = 0, 0

    def update(self, done: int, total: int) -> None:
        """Remember how far it is."""
        self._done, self._total = done, total
        if self._callback:
            self._callback(done, total)

    def say_stopped(self, command: str, filename: str, left: str) -> None:
        """Say on stderr how far the command came, and what is left."""
        from fvd.cli import _output

        how_far = f" after {self._done} of {self._total} bytes" if self._total else ""
        _output.complain(
            f"fvd: {command} of '{_output.printable(filename)}' stopped{how_far}: the disk is as before, "
            f"{left}. The same command completes it"
        )
