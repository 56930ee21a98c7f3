"""Values of the options of `fvd serve`: checks and conversions."""

from __future__ import annotations

from fvd.cli._common import CommandError, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.cli._arguments import Given
    from fvd.types import Aio, DetectZeroes, Discard


def number(what: str, text: str, most: int) -> int:
    """Convert a number from 0 to `most`; `what` is its name in the message."""
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise CommandError(f"Invalid {what} '{text}': a number from 0 to {most}")
    return int(text)


def poll_max_ns(text: str | None) -> int | None:
    """Convert the time to poll for requests: at most 500,000 ns."""
    return None if text is None else number("time to poll", text, 500_000)


def aio(mode: str | None) -> Aio | None:
    """Check the mode in which to wait for disks."""
    if mode == "native":
        # The older kernel interface is not used. The default also waits without threads where it can.
        return None
    if mode not in (None, "threads", "io_uring"):
        raise CommandError(f"Invalid aio mode '{mode}': threads, io_uring or native")
    return cast("Aio | None", mode)


def tls_required(given: Given) -> bool:
    """Tell whether clients without TLS are refused."""
    if given.tls not in (None, "allow", "require"):
        raise CommandError(f"Invalid TLS mode '{given.tls}': allow or require")
    if given.tls is not None and given.tls_creds is None and given.tls_psk is None:
        raise CommandError("--tls needs --tls-creds or --tls-psk")
    return bool(given.tls != "allow")


def detect_zeroes(mode: str) -> DetectZeroes:
    """Check how writes of zeros are handled."""
    if mode not in ("off", "on", "unmap"):
        raise CommandError(f"Invalid detect-zeroes mode '{mode}': off, on or unmap")
    return cast("DetectZeroes", mode)


def discard(mode: str) -> Discard:
    """Check how discards are handled."""
    if mode not in ("ignore", "off", "unmap", "on"):
        raise CommandError(f"Invalid discard mode '{mode}': ignore or unmap")
    return "unmap" if mode in ("unmap", "on") else "ignore"
