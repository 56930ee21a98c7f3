"""NBD servers in this process: `fvd.serve` and `fvd.Server`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import is_path, of_core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from fvd._disks import CoreDisk, Disk
    from fvd._remote import Remote
    from fvd.types import Aio, BaseError, CacheMode, DetectZeroes, Discard, Format, ServerStats, StrPath

_OF_OPENING = (
    "format",
    "force_share",
    "cache",
    "discard",
    "detect_zeroes",
    "aio",
    "copy_on_read",
    "base_error",
    "base_timeout",
    "write_base",
    "trust",
    "cache_dir",
    "remote",
)
"""Arguments that say how to open a file. They are refused for an image that is open already."""


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
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    write_base: bool = False,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    tls_creds: StrPath | None = None,
    tls_psk: StrPath | None = None,
    tls_verify_peer: bool = False,
    tls_authz: Sequence[str] = (),
    tls_required: bool = True,
    handshake_limit: int | None = None,
    poll_max_ns: int | None = None,
    metrics: str | None = None,
) -> Server:
    """Serve a disk, or a mapping from export names to disks, over NBD until the server is stopped.

    ```pycon
    >>> with fvd.serve("disk.fvd", socket="nbd.sock") as server:
    ...     server.uri  # for clients, such as `nbdcopy URI copy.raw`
    'nbd+unix:///?socket=...nbd.sock'
    ```

    The server runs on its own threads. It listens on a Unix `socket`, or on TCP: `bind` is `"localhost"` by
    default, and `port` (0 to 65535) is 0, any free port. A RuntimeWarning lists addresses that other machines
    can reach without TLS. The server has the disks open, so other processes cannot open them. `shared` is the
    maximum number of clients connected at once, 0 for no other limit than the server's own. Without
    `persistent`, the server ends when the last client has disconnected. `offset` and `size`, in bytes of any
    alignment, serve a part of the disk, which must lie inside the disk. `description` and the names of
    exports have at most 4096 bytes in UTF-8. Without `format`, a file is an FVD image; raw and qcow2 must be
    named, and qcow2 needs `read_only`.

    `tls_creds` is a folder with `server-cert.pem` and `server-key.pem`, `tls_psk` a file with keys.
    `tls_verify_peer` requires certificates from clients, and `tls_authz` admits only clients whose
    certificates have these subjects (`"CN=laptop,O=Example"`). `handshake_limit` is the time limit for a
    client's handshake in whole seconds: 10 by default, 0 for no limit.

    `aio` selects how to wait for disks; by default, the fastest way. `base_error` and `base_timeout` are
    those of `open`, also for bases on this machine; a client gets EIO, because NBD has no ETIMEDOUT.
    `metrics` is an address (`"localhost:9000"`) for Prometheus. `poll_max_ns` is the maximum time that the
    server polls for the next request of a client that sends one at a time, before it sleeps: 0 to 500,000
    nanoseconds, 50,000 by default, 0 for no polling. `force_share` opens files read-only, without taking
    their locks. The other arguments are those of `open` and of `fvd serve`.

    A disk is a file, or an image that is open already:

    ```pycon
    >>> with fvd.open("disk.fvd", "r+") as image, fvd.serve(image, socket="nbd.sock") as server:
    ...     image.pwrite(b"visible to clients at once", 0)
    26
    ```

    Such an image can be used meanwhile: reads here see what clients write, and the other way round. It is
    served in the mode in which it was opened, or read-only with `read_only`; arguments of `open` raise
    `ValueError` here. The server does not close it, and `close` raises `InUseError` until the server has
    stopped. An image of `fvd.aio` is served as fast as a file. An image of `fvd.open`, which uses blocking
    I/O, costs a change of threads for each request.

    A disk can also be a source, which Python code reads (see `fvd.source`). It is served read-only, as a raw
    disk unless `format` says otherwise. If its `pread` raises an exception, clients get EIO, and one line on
    stderr says so.

    Raises `ValueError` for arguments that are invalid or do not fit together, and what `open` raises for a
    file; `IoError` if an address cannot be listened on or a file of TLS cannot be read; `InUseError` if
    another server listens on the socket.
    """
    # All arguments, by name.
    given = dict(locals())
    named = _named(given.pop("disks"))
    if all(isinstance(disk, _core.Image | _core.AsyncImage) for _, disk in named):
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
        # The caller has turned the warning into an error, so do not serve.
        server.stop()
        raise


def _named(disks: Disk | Mapping[str, Disk]) -> list[tuple[str, CoreDisk]]:
    """Return the disks with the names of their exports. A single disk is the default export."""
    if not hasattr(disks, "items"):
        return [("", _known(disks))]
    if not disks:
        raise ValueError("there is nothing to serve")
    return [(name, _known(disk)) for name, disk in disks.items()]


def _known(disk: Disk) -> CoreDisk:
    """Return a disk in the form that the core accepts. Raises TypeError if it cannot be served."""
    known = of_core(disk)
    if is_path(known) or isinstance(known, _core.Image | _core.AsyncImage | _core.Source):
        return known
    raise TypeError(f"cannot serve {disk!r}: a path, an fvd.Image, an fvd.aio.Image or a source is needed")


def _refuse_opening(given: Mapping[str, object]) -> None:
    """Raise ValueError if an argument says how to open images that are open already."""
    for name in _OF_OPENING:
        if given[name] != (serve.__kwdefaults__ or {})[name]:
            raise ValueError(f"`{name}` says how to open a file, and this image is open already")


def open_door_warning(addresses: list[str]) -> str:
    """Return the warning about `addresses` that other machines can reach without TLS; empty if there are
    none.
    """
    if not addresses:
        return ""
    return (
        f"other machines can reach {', '.join(addresses)} and need no TLS there: any client can use the disk "
        "(TLS with keys or certificates decides who can)"
    )


class Server:
    """A server that runs on its own threads. `fvd.serve` starts it.

    A context manager, also for asyncio (`async with`), which stops the server at the end. In a process that
    was forked after the server started, `stats` and `wait` raise `ValueError`, and `stop` does nothing.

    ```pycon
    >>> async with fvd.serve({"system": "overlay.fvd", "data": "disk.fvd"}) as server:
    ...     len(server.uris)
    2
    ```
    """

    __slots__ = ("__weakref__", "_server")

    def __init__(self, server: _core.Server) -> None:
        """Wrap the server that `fvd.serve` has started."""
        self._server = server

    @property
    def open_doors(self) -> list[str]:
        """Addresses that other machines can reach and where clients need no TLS.

        ```pycon
        >>> server.open_doors  # other machines cannot reach a Unix socket
        []
        ```
        """
        return self._server.open_doors

    @property
    def uri(self) -> str:
        """The NBD URI of the disk: the first of `uris`.

        ```pycon
        >>> server.uri
        'nbd+unix:///?socket=...nbd.sock'
        ```
        """
        return self.uris[0]

    @property
    def uris(self) -> list[str]:
        """The NBD URIs of the disks: one for each export on each socket.

        ```pycon
        >>> server.uris
        ['nbd+unix:///?socket=...nbd.sock']
        ```
        """
        return self._server.uris

    @property
    def metrics_url(self) -> str | None:
        """The URL of the metrics; None without `metrics`.

        ```pycon
        >>> with fvd.serve("overlay.fvd", metrics="localhost:0") as measured:  # 0: any free port
        ...     measured.metrics_url
        'http://...:.../metrics'
        ```
        """
        return self._server.metrics_url

    @property
    def connections(self) -> int:
        """Number of connected clients. A client can have several connections, and each counts.

        ```pycon
        >>> server.connections
        0
        ```
        """
        return self._server.connections

    @property
    def closed(self) -> bool:
        """Whether the server has been stopped. It can have ended before that (see `wait`).

        ```pycon
        >>> server.closed
        False
        ```
        """
        return self._server.closed

    def stats(self) -> ServerStats:
        """Return the counters since the start. Raises `ValueError` once the server has been stopped.

        ```pycon
        >>> stats = server.stats()
        >>> stats["connections"]["total"], stats["requests"]["write"]
        (0, {'requests': 0, 'bytes': 0, 'errors': 0})
        ```
        """
        return self._server.stats()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; return False if that takes longer than `timeout` seconds.

        `timeout` can have a fraction; one that is negative counts as 0, None is no limit, and the largest is
        2^32 - 1. Without `persistent`, the server ends when the last client has disconnected. Call `stop`
        after that, too. Signal handlers run meanwhile, and what they raise ends the wait.

        ```pycon
        >>> server.wait(timeout=0.01)
        False
        ```
        """
        return self._server.wait(timeout) == "ended"

    def stop(self) -> None:
        """Stop: answer the requests in flight, then close the disks. Does nothing if called again.

        Images that were open before `fvd.serve` stay open; they can be closed from now on. In a process that
        was forked after the server started, this does nothing, because the server belongs to the parent.
        Raises `FvdError` if a disk could not be closed. A KeyboardInterrupt ends only the waiting: closing
        continues, and another `stop` waits for it.

        ```pycon
        >>> server.stop()
        >>> server.closed
        True
        ```
        """
        self._server.stop()

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server without blocking the event loop."""
        import asyncio

        # Begin to stop before the first `await`, where a cancellation could prevent it.
        if self._server.begin_stop():
            await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        """Return a text with the URIs of the server."""
        state = ", closed" if self.closed else ""
        return f"<fvd.Server {' '.join(self.uris)}{state}>"
