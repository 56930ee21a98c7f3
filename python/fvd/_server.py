"""A server in this process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from fvd import _fvd as _core
    from fvd.types import ServerStats


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

    A context manager, also for asyncio (`async with`), which stops the server at the end.
    """

    __slots__ = ("__weakref__", "_server")

    def __init__(self, server: _core.Server) -> None:
        """Wrap the server that `fvd.serve` has started."""
        self._server = server

    @property
    def open_doors(self) -> list[str]:
        """Addresses that other machines can reach and where clients need no TLS."""
        return self._server.open_doors

    @property
    def uri(self) -> str:
        """The NBD URI of the disk: the first of `uris`."""
        return self.uris[0]

    @property
    def uris(self) -> list[str]:
        """The NBD URIs of the disks: one for each export on each socket."""
        return self._server.uris

    @property
    def metrics_url(self) -> str | None:
        """The URL of the metrics; None without `metrics`."""
        return self._server.metrics_url

    @property
    def connections(self) -> int:
        """Number of connected clients."""
        return self._server.connections

    @property
    def closed(self) -> bool:
        """Whether the server has been stopped."""
        return self._server.closed

    def stats(self) -> ServerStats:
        """Return the counters since the start. Raises ValueError after the end."""
        return self._server.stats()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; return False if that takes longer than `timeout` seconds.

        Without `persistent`, the server ends when the last client has disconnected. Call `stop` after that,
        too.
        """
        return self._server.wait(timeout) == "ended"

    def stop(self) -> None:
        """Stop: answer the requests in flight, then close the disks. Does nothing if called again.

        Images that were open before `fvd.serve` stay open; they can be closed from now on. In a process that
        was forked after the server started, this does nothing, because the server belongs to the parent.
        Raises `FvdError` if a disk could not be closed. A KeyboardInterrupt ends only the waiting: closing
        continues, and another `stop` waits for it.
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
