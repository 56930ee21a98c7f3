"""`fvd.serve`: starts a server in this process."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import is_path, of_core
from fvd._server import Server, open_door_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fvd._disks import CoreDisk, Disk
    from fvd.types import Aio, CacheMode, DetectZeroes, Discard, Format, StrPath

_OF_OPENING = (
    "format",
    "force_share",
    "cache",
    "discard",
    "detect_zeroes",
    "aio",
    "copy_on_read",
    "base_timeout",
    "write_base",
    "trust",
)
"""What says how to open a file: nothing to an image that is open."""


def serve(
    disks: Disk | Mapping[str, Disk],
    *,
    socket: StrPath | None = None,
    bind: str | None = None,
    port: int | None = None,
    description: str = "",
    format: Format | None = None,
    offset: int = 0,
    size: int | None = None,
    read_only: bool = False,
    persistent: bool = True,
    shared: int = 0,
    force_share: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    aio: Aio | None = None,
    copy_on_read: bool | None = None,
    base_timeout: float | None = None,
    write_base: bool = False,
    trust: Sequence[StrPath] = (),
    tls_creds: StrPath | None = None,
    tls_psk: StrPath | None = None,
    tls_verify_peer: bool = False,
    tls_authz: Sequence[str] = (),
    tls_required: bool = True,
    handshake_limit: int | None = None,
    poll_max_ns: int | None = None,
    metrics: str | None = None,
) -> Server:
    """Serve a disk over NBD, or several as a mapping from names to disks, until the server is stopped.

        with fvd.serve("disk.fvd", socket="nbd.sock") as server:
            subprocess.run(["nbdcopy", server.uri, "copy.raw"], check=True)

    It runs on threads of its own, on a Unix `socket`, or on TCP: `bind` is `"localhost"` unless told
    otherwise, `port` any that is free; a RuntimeWarning tells of addresses that other machines can reach
    without TLS. The server has the disks open, so nobody else can. `shared` is how
    many clients may be connected at once, 0 as many as it can take; without `persistent` it ends when the
    last one has left. `offset` and `size` serve a part of the disk, in bytes.

    `tls_creds` is a folder with `server-cert.pem` and `server-key.pem`, `tls_psk` a file with keys;
    `tls_verify_peer` demands certificates of clients, and `tls_authz` lets in only those whose certificates
    have these subjects (`"CN=laptop,O=Example"`). `handshake_limit` is how many seconds a client's handshake
    may take, 10 unless told otherwise, 0 as many as it likes.

    `aio` is what waits for disks, the fastest unless told otherwise; `base_timeout` the seconds after which a
    read of a base that does not answer fails: with EIO, because NBD knows no ETIMEDOUT. `metrics` is an
    address (`"localhost:9000"`) for Prometheus. `poll_max_ns` is how long, in nanoseconds up to 500,000, it
    looks for the next request of a client that sends one at a time before it sleeps: 50,000 unless told
    otherwise, 0 never. `force_share` opens files read-only, and past their locks. The other arguments are
    those of `open`, and of `fvd serve`.

    A disk is a file, or an image that is open already:

        with fvd.open("disk.fvd", "r+") as image, fvd.serve(image) as server:
            ...

    Such an image stays in use: what clients write is read here, and the other way round. It is served as it
    was opened, read-only if it was or `read_only` says so; what `open` was told cannot be said again here. It
    is not closed by the server, nor by anybody before the server has been stopped: `close` raises
    `InUseError` until then. One of `fvd.aio` is served as fast as a file; one of `fvd.open`, whose files
    block, costs each request a change of threads.
    """
    # By name, all of them.
    given = dict(locals())
    named = _named(given.pop("disks"))
    if not any(is_path(disk) for _, disk in named):
        _refuse_opening(given)
    if socket is None:
        given["bind"] = "localhost" if bind is None else bind
        given["port"] = 0 if port is None else port
    server = Server(_core.serve(named, **given))
    _warn_of_open_doors(server)
    return server


def _warn_of_open_doors(server: Server) -> None:
    message = open_door_warning(server.open_doors)
    if not message:
        return
    import warnings

    try:
        warnings.warn(f"fvd.serve: {message}", RuntimeWarning, stacklevel=3)
    except Warning:
        # It was made an error: nothing is served then.
        server.stop()
        raise


def _named(disks: Disk | Mapping[str, Disk]) -> list[tuple[str, CoreDisk]]:
    """Return the disks with the names of their exports; one disk alone is the default export."""
    if not hasattr(disks, "items"):
        return [("", _known(disks))]
    if not disks:
        raise ValueError("there is nothing to serve")
    return [(name, _known(disk)) for name, disk in disks.items()]


def _known(disk: Disk) -> CoreDisk:
    """Return a disk as the core knows it, if it can be served."""
    known = of_core(disk)
    if is_path(known) or isinstance(known, _core.Image | _core.AsyncImage):
        return known
    raise TypeError(f"cannot serve {disk!r}: a path, an fvd.Image or an fvd.aio.Image is needed")


def _refuse_opening(given: Mapping[str, object]) -> None:
    """Refuse to be told how to open what is open."""
    for name in _OF_OPENING:
        if given[name] != (serve.__kwdefaults__ or {})[name]:
            raise ValueError(f"`{name}` says how to open a file, and this image is open already")
