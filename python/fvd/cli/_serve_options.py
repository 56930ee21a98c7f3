"""The options of `fvd serve`: names, meanings and defaults are those of qemu-nbd."""

from __future__ import annotations

import os

from fvd.cli import _activation, _common
from fvd.cli._arguments import Parser
from fvd.cli._cast import cast
from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import TypedDict

    from fvd.types import Aio, CacheMode, DetectZeroes, Discard, Format

    class Settings(TypedDict):
        """What the core is asked to serve."""

        disks: list[tuple[str, str]]
        sockets: list[int]
        socket: str | None
        bind: str | None
        port: int | None
        description: str
        format: Format | None
        read_only: bool
        persistent: bool
        shared: int
        force_share: bool
        cache: CacheMode
        discard: Discard
        detect_zeroes: DetectZeroes
        aio: Aio | None
        copy_on_read: bool | None
        base_timeout: float | None
        write_base: bool
        trust: list[str]
        tls_creds: str | None
        tls_psk: str | None
        tls_verify_peer: bool
        tls_required: bool
        poll_max_ns: int | None
        metrics: str | None
        verbose: bool
        signals: bool


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("serve", "Serve disks over NBD", "[OPTIONS] FILE | [OPTIONS] NAME=FILE...")
    _where(parser)
    _what(parser)
    _how(parser)
    _tls(parser)
    parser.describe("FILE", "an image, or with -f a disk of another format")
    parser.describe("NAME=FILE", "the same under a name of its own; may be repeated")
    return parser


def _where(parser: Parser) -> None:
    parser.option("-k", "--socket", metavar="PATH", help="listen on a Unix socket")
    parser.option("-b", "--bind", metavar="ADDR", help="listen on this address (default localhost)")
    parser.option("-p", "--port", metavar="N", help="listen on it (default 10809; 0: one that is free)")


def _what(parser: Parser) -> None:
    parser.option("-x", "--export-name", metavar="NAME", help="name of the export (default: the empty name)")
    parser.option("-D", "--description", metavar="TEXT", default="", help="words for people about the export")
    parser.option(
        "-f",
        "--format",
        metavar="FMT",
        help="fvd, raw, or qcow2 with -r (default: only fvd is detected)",
    )
    parser.option("-r", "--read-only", help="refuse writes")
    parser.option("-t", "--persistent", help="go on when the last client has left")
    parser.option(
        "-e",
        "--shared",
        metavar="N",
        default="1",
        help="clients at once (default 1; 0: no limit)",
    )
    parser.option("-A", "--allocation-depth", help="accepted; qemu:allocation-depth is always offered")


def _how(parser: Parser) -> None:
    _common.share_option(parser)
    parser.option(
        "--cache",
        metavar="MODE",
        default="writeback",
        help="cache mode (default writeback): writeback, writethrough, none, off, directsync or unsafe",
    )
    parser.option(
        "--discard", metavar="MODE", default="unmap", help="what a trim does: ignore or unmap (default)"
    )
    parser.option(
        "--copy-on-read",
        action="store_true",
        dest="copy_on_read",
        default=None,
        help="store what is read from the base, whatever the image says",
    )
    parser.option(
        "--no-copy-on-read", action="store_false", dest="copy_on_read", help="store nothing that is only read"
    )
    parser.option(
        "--aio",
        metavar="MODE",
        help="what waits for disks: threads or io_uring (default: what is faster here)",
    )
    parser.option(
        "--poll-max-ns",
        metavar="N",
        help="look for the next request for so long before sleeping (default 50000; 0: never)",
    )
    parser.option(
        "--detect-zeroes",
        metavar="MODE",
        default="off",
        help="zeros that are written: off (default) stores them, on zeroes, unmap frees",
    )
    parser.option(
        "--base-timeout",
        metavar="SECONDS",
        help="fail reads of a base that does not answer in time (default: wait)",
    )
    parser.option("--write-base", help="allow an image that writes to its base to do so")
    _common.trust_option(parser)
    parser.option(
        "--metrics",
        metavar="ADDR:PORT",
        help="hand out metrics for Prometheus there (HTTP)",
    )
    parser.option("--fork", help="go on in the background; returns when clients can connect")
    parser.option("--pid-file", metavar="PATH", help="write the number of the process there, while it serves")


def _tls(parser: Parser) -> None:
    parser.option(
        "--tls-creds",
        metavar="DIR",
        help="TLS: DIR has server-cert.pem and server-key.pem, and ca-cert.pem to verify clients",
    )
    parser.option(
        "--tls-psk", metavar="FILE", help="TLS with keys: FILE has lines USER:KEY, as psktool makes them"
    )
    parser.option("--tls-verify-peer", help="demand a certificate of clients")
    parser.option(
        "--tls",
        metavar="allow|require",
        help="whether clients need TLS (default: require, where there is any)",
    )


def settings(given: argparse.Namespace) -> Settings:
    """Check the options, and return what they ask for."""
    if given.socket is not None and (given.bind is not None or given.port is not None):
        raise CommandError("A Unix socket (-k) has no address (-b) and no port (-p)")
    return {
        "disks": _disks(given),
        "sockets": _sockets(given),
        "socket": given.socket,
        "bind": given.bind,
        "port": None if given.port is None else _number("port", given.port, 0xFFFF),
        "description": given.description,
        "format": _common.source_format(given.format),
        "read_only": given.read_only,
        "persistent": given.persistent,
        "shared": _number("number of clients", given.shared, 1 << 16),
        "force_share": given.force_share,
        "cache": _common.cache_mode(given.cache, "cache"),
        "discard": _discard(given.discard),
        "detect_zeroes": _detect_zeroes(given.detect_zeroes),
        "aio": _aio(given.aio),
        "copy_on_read": given.copy_on_read,
        "base_timeout": None if given.base_timeout is None else _seconds(given.base_timeout),
        "write_base": given.write_base,
        "trust": _common.trusted(given),
        "tls_creds": given.tls_creds,
        "tls_psk": given.tls_psk,
        "tls_verify_peer": given.tls_verify_peer,
        "tls_required": _tls_required(given),
        "poll_max_ns": _poll_max_ns(given.poll_max_ns),
        "metrics": given.metrics,
        "verbose": True,
        "signals": True,
    }


def _sockets(given: argparse.Namespace) -> list[int]:
    """Return the sockets that were handed over."""
    sockets = _activation.inherited()
    if sockets and (given.socket is not None or given.bind is not None or given.port is not None):
        raise CommandError("The sockets were handed over (LISTEN_FDS): -k, -b and -p are not for this")
    if sockets and given.fork:
        raise CommandError(
            "The sockets were handed over to this process (LISTEN_FDS): --fork is not for this"
        )
    return sockets


def _disks(given: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the names of the exports, and their files."""
    disks = [_named(text) for text in given.files]
    if len(disks) == 1:
        name, path = disks[0]
        return [(name if given.export_name is None else given.export_name, path)]
    if given.export_name is not None:
        raise CommandError("Several disks cannot have the one name of -x: use NAME=FILE for each")
    for name, path in disks:
        if not name:
            raise CommandError(f"Several disks need names: use NAME={path} instead of '{path}'")
    return disks


def _named(text: str) -> tuple[str, str]:
    """Cut `NAME=FILE`; a file whose own name looks like that is a file."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name or os.path.exists(text):
        return "", text
    return name, path


def _number(what: str, text: str, most: int) -> int:
    """Read a number of `what`, from 0 to `most`."""
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise CommandError(f"Invalid {what} '{text}': a number from 0 to {most}")
    return int(text)


def _poll_max_ns(text: str | None) -> int | None:
    """Read how long to look for requests, at most 500 us."""
    return None if text is None else _number("time to poll", text, 500_000)


def _aio(mode: str | None) -> Aio | None:
    """Check what is to wait for disks."""
    if mode not in (None, "threads", "io_uring"):
        raise CommandError(f"Invalid aio mode '{mode}': threads or io_uring")
    return cast("Aio | None", mode)


def _tls_required(given: argparse.Namespace) -> bool:
    if given.tls not in (None, "allow", "require"):
        raise CommandError(f"Invalid TLS mode '{given.tls}': allow or require")
    if given.tls is not None and given.tls_creds is None and given.tls_psk is None:
        raise CommandError("--tls needs --tls-creds or --tls-psk")
    return bool(given.tls != "allow")


def _detect_zeroes(mode: str) -> DetectZeroes:
    if mode not in ("off", "on", "unmap"):
        raise CommandError(f"Invalid detect-zeroes mode '{mode}': off, on or unmap")
    return cast("DetectZeroes", mode)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise CommandError(f"Invalid base timeout '{text}': seconds, more than 0")
    return value


def _discard(mode: str) -> Discard:
    if mode not in ("ignore", "off", "unmap", "on"):
        raise CommandError(f"Invalid discard mode '{mode}': ignore or unmap")
    return "unmap" if mode in ("unmap", "on") else "ignore"
