"""The options of `fvd serve`. Names, meanings and defaults are those of qemu-nbd."""

from __future__ import annotations

import os

from fvd import __version__, options
from fvd.cli import _activation, _common, _log
from fvd.cli._arguments import Parser
from fvd.cli._common import CommandError
from fvd.cli.serve import values as _values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from fvd import Remote
    from fvd.cli._arguments import Given
    from fvd.types import Aio, BaseError, CacheMode, DetectZeroes, Discard, Format

    class Settings(TypedDict):
        """Arguments for `serve` of the core."""

        disks: list[tuple[str, str]]
        sockets: list[int]
        socket: str | None
        bind: str | None
        port: int | None
        description: str
        format: Format | None
        offset: int
        size: int | None
        read_only: bool
        persistent: bool
        shared: int
        force_share: bool
        cache: CacheMode
        discard: Discard
        detect_zeroes: DetectZeroes
        aio: Aio | None
        copy_on_read: bool | None
        base_error: BaseError | None
        base_timeout: float | None
        write_base: bool
        trust: list[str]
        cache_dir: str | None
        remote: Remote | None
        tls_creds: str | None
        tls_psk: str | None
        tls_verify_peer: bool
        tls_authz: list[str]
        tls_required: bool
        handshake_limit: int | None
        poll_max_ns: int | None
        metrics: str | None
        signals: bool


def parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("serve", "Serve disks over NBD", "[OPTIONS] FILE | [OPTIONS] NAME=FILE...")
    _where(parser)
    _what(parser)
    _how(parser)
    _tls(parser)
    parser.printing("-V", "--version", text=f"fvd version {__version__}\n", help="print the version")
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
    parser.switch(
        "--image-opts", help="FILE is a description as QEMU takes it: driver=FMT,file.filename=NAME"
    )
    parser.option("-o", "--offset", metavar="N", help="serve FILE from this byte on, not from its start")
    parser.switch("-r", "--read-only", help="refuse writes")
    parser.switch("-t", "--persistent", help="go on when the last client has left")
    parser.option(
        "-e",
        "--shared",
        metavar="N",
        default="1",
        help="clients at once (default 1; 0: no limit)",
    )
    parser.option(
        "--handshake-limit", metavar="SECONDS", help="time for a client's handshake (default 10; 0: no limit)"
    )
    parser.switch("-A", "--allocation-depth", help="accepted; qemu:allocation-depth is always offered")


def _how(parser: Parser) -> None:
    _common.share_option(parser)
    parser.option(
        "--cache",
        metavar="MODE",
        default="writeback",
        help="cache mode (default writeback): writeback, writethrough, none, off, directsync or unsafe",
    )
    parser.switch("-n", "--nocache", dest="cache", constant="none", help="the same as --cache=none")
    parser.option(
        "--discard", metavar="MODE", default="unmap", help="what a trim does: ignore or unmap (default)"
    )
    parser.switch(
        "--copy-on-read",
        default=None,
        help="store what is read from the base, whatever the image says",
    )
    parser.switch(
        "--no-copy-on-read", dest="copy_on_read", constant=False, help="store nothing that is only read"
    )
    parser.option(
        "--aio",
        metavar="MODE",
        help="what waits for disks: threads, io_uring or native (default, native: what is faster here)",
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
    _common.base_options(parser)
    parser.switch("--write-base", help="allow an image that writes to its base to do so")
    _common.trust_option(parser)
    _common.base_url_option(parser)
    _common.cache_dir_option(parser)
    parser.option(
        "--metrics",
        metavar="ADDR:PORT",
        help="hand out metrics for Prometheus there (HTTP)",
    )
    parser.switch("--fork", help="go on in the background; returns when clients can connect")
    parser.option("--pid-file", metavar="PATH", help="a file for the number of the process, while it serves")
    _common.output_option(parser)
    parser.switch("-v", "--verbose", help="with --fork: go on to write to stderr what goes wrong")
    _log.add_options(parser)
    parser.option(
        "-T", "--trace", metavar="WORDS", help="accepted; there are no trace points (see --log-level)"
    )


def _tls(parser: Parser) -> None:
    parser.option(
        "--tls-creds",
        metavar="DIR",
        help="TLS: DIR has server-cert.pem and server-key.pem, and ca-cert.pem to verify clients",
    )
    parser.option(
        "--tls-psk", metavar="FILE", help="TLS with keys: FILE has lines USER:KEY, as psktool makes them"
    )
    parser.switch("--tls-verify-peer", help="demand a certificate of clients")
    parser.option(
        "--tls-authz",
        metavar="DN",
        repeatable=True,
        help="let in only the client whose certificate has this subject (CN=laptop,O=Example); may be\n"
        "repeated; implies --tls-verify-peer",
    )
    parser.option(
        "--tls",
        metavar="allow|require",
        help="whether clients need TLS (default: require, where there is any)",
    )


def settings(given: Given) -> Settings:
    """Check the options, and return the settings that they stand for."""
    if given.socket is not None and (given.bind is not None or given.port is not None):
        raise CommandError("A Unix socket (-k) has no address (-b) and no port (-p)")
    disks, format, offset, size = _content(given)
    return {
        "disks": disks,
        "sockets": _sockets(given),
        "socket": given.socket,
        "bind": given.bind,
        "port": None if given.port is None else _values.number("port", given.port, 0xFFFF),
        "description": given.description,
        "format": format,
        "offset": offset,
        "size": size,
        "read_only": given.read_only,
        "persistent": given.persistent,
        "shared": _values.number("number of clients", given.shared, 1 << 16),
        "force_share": given.force_share,
        "cache": _common.cache_mode(given.cache, "cache"),
        "discard": _values.discard(given.discard),
        "detect_zeroes": _values.detect_zeroes(given.detect_zeroes),
        "aio": _values.aio(given.aio),
        "copy_on_read": given.copy_on_read,
        "base_error": _common.base_error(given),
        "base_timeout": _common.base_timeout(given),
        "write_base": given.write_base,
        "trust": _common.trusted(given),
        "cache_dir": given.cache_dir,
        "remote": _common.remote(given),
        "tls_creds": given.tls_creds,
        "tls_psk": given.tls_psk,
        "tls_verify_peer": given.tls_verify_peer,
        "tls_authz": given.tls_authz,
        "tls_required": _values.tls_required(given),
        "handshake_limit": None
        if given.handshake_limit is None
        else _values.number("handshake limit", given.handshake_limit, 0xFFFF_FFFF),
        "poll_max_ns": _values.poll_max_ns(given.poll_max_ns),
        "metrics": given.metrics,
        "signals": True,
    }


def _sockets(given: Given) -> list[int]:
    """Return the sockets that were passed by the parent process."""
    sockets = _activation.inherited()
    if sockets and (given.socket is not None or given.bind is not None or given.port is not None):
        raise CommandError("The sockets were handed over (LISTEN_FDS): -k, -b and -p are not for this")
    if sockets and given.fork:
        raise CommandError(
            "The sockets were handed over to this process (LISTEN_FDS): --fork is not for this"
        )
    return sockets


def _content(given: Given) -> tuple[list[tuple[str, str]], Format | None, int, int | None]:
    """Return the exports with their files, the format of these files, and the part of them to serve."""
    offset = 0 if given.offset is None else options.size_argument("offset", given.offset)
    if not given.image_opts:
        disks = _disks(given)
        if offset and len(disks) > 1:
            raise CommandError("-o is for one disk, and there are several")
        return disks, _common.source_format(given.format), offset, None
    if given.format is not None:
        raise CommandError("--image-opts names the format, and so does -f: one of them is enough")
    if len(given.files) > 1:
        raise CommandError("--image-opts describes one disk, and there are several")
    from fvd.cli import _image_opts

    found = _image_opts.parse(given.files[0])
    if offset and found["offset"]:
        raise CommandError("--image-opts has an offset, and so has -o: one of them is enough")
    disks = [(given.export_name or "", found["path"])]
    return disks, _common.source_format(found["format"]), offset or found["offset"], found["size"]


def _disks(given: Given) -> list[tuple[str, str]]:
    """Return the names of the exports with their files."""
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
    """Split `NAME=FILE`. If a file of that whole name exists, it is the file."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name or os.path.exists(text):
        return "", text
    return name, path
