"""A server in this process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from fvd import _fvd as _core
    from fvd.types import ServerStats


def open_door_warning(addresses: list[str]) -> str:
    """Return what to say where other machines reach `addresses` without TLS; empty for none."""
    if not addresses:
        return ""
    return (
        f"other machines can reach {', '.join(addresses)} and need no TLS there: any client can use the disk "
        "(TLS with keys or certificates decides who can)"
    )


class Server:
    """A server that runs on threads of its own; `fvd.serve` starts it.

    A context manager, also of asyncio (`async with`): its end stops the server.
    """

    __slots__ = ("__weakref__", "_server")

    def __init__(self, server: _core.Server) -> None:
        """Take over what `fvd.serve` has started."""
        self._server = server

    @property
    def open_doors(self) -> list[str]:
        """Addresses that other machines can reach and whose clients need no TLS."""
        return self._server.open_doors

    @property
    def uri(self) -> str:
        """Where clients find the disk: the first of `uris`."""
        return self.uris[0]

    @property
    def uris(self) -> list[str]:
        """Where clients find the disks: one for each export on each socket."""
        return self._server.uris

    @property
    def metrics_url(self) -> str | None:
        """Where the metrics are; None if they were not asked for."""
        return self._server.metrics_url

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._server.connections

    @property
    def closed(self) -> bool:
        """Whether it has been stopped."""
        return self._server.closed

    def stats(self) -> ServerStats:
        """Return what was done since the start. Raises ValueError after the end."""
        return self._server.stats()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nobody is served any more; False if that takes longer than `timeout` seconds.

        Without `persistent` that is when the last client has left. `stop` is still to be called then.
        """
        return self._server.wait(timeout) == "ended"

    def stop(self) -> None:
        """Stop: what is under way is answered, then the disks are closed. Does nothing the second time.

        Images that were open before stay open; they can be closed from now on. In a process that was forked
        since the server was started nothing is done: it is the parent's.
        Raises FvdError where a disk could not be closed. A KeyboardInterrupt ends the waiting only: the
        closing goes on, and another `stop` waits for it.
        """
        self._server.stop()

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, while the event loop goes on."""
        import asyncio

        # Before anything that a cancellation could keep from being done.
        if self._server.begin_stop():
            await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        """Say where it is."""
        state = ", closed" if self.closed else ""
        return f"<fvd.Server {' '.join(self.uris)}{state}>"
