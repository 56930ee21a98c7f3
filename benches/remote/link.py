"""A network link to a far server: a TCP proxy that adds latency and limits the rate.

    python -m benches.remote.link --listen 8081 --to 127.0.0.1:8080 --delay 15 --rate 125e6

Each direction is a link of its own, which all connections share. Bytes leave one after the other, at the
rate of the link, and arrive `delay` later. So a round trip takes twice the delay. As over a real link, a
connection has at most `--window` bytes under way in each direction: that limits it if the link is long.
`--stall 0.01:10` holds one request in a hundred for 10 s.
"""

import argparse
import asyncio
import random
from dataclasses import dataclass, field

PIECE = 64 << 10


@dataclass
class Direction:
    """One direction of the link."""

    rate: float
    """Bytes a second."""
    delay: float
    """Seconds."""
    stall: tuple[float, float] = (0.0, 0.0)
    """The share of pieces that are held, and for how many seconds."""
    free_at: float = 0.0
    """When the last byte so far has left."""
    sent: int = 0
    """Bytes so far."""

    def send(self, now: float, size: int) -> float:
        """The time at which `size` bytes arrive."""
        self.free_at = max(self.free_at, now) + size / self.rate
        self.sent += size
        share, seconds = self.stall
        held = seconds if random.random() < share else 0.0
        return self.free_at + self.delay + held


@dataclass
class Link:
    """Both directions, and the server at the other end."""

    to: tuple[str, int]
    window: int
    up: Direction
    down: Direction
    opened: int = 0
    """Connections so far."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            # The handshake of TCP takes a round trip.
            await asyncio.sleep(self.up.delay + self.down.delay)
            far_reader, far_writer = await asyncio.open_connection(*self.to, limit=4 * PIECE)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            carry(reader, far_writer, self.up, self.window),
            carry(far_reader, writer, self.down, self.window),
            return_exceptions=True,
        )


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, window: int
) -> None:
    """Carries the bytes of a connection in one direction, until its end."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(1, window // PIECE))

    async def deliver() -> None:
        while True:
            at, piece = await under_way.get()
            if (wait := at - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(PIECE):
            await under_way.put((direction.send(loop.time(), len(piece)), piece))
    except OSError:
        pass
    await under_way.put((loop.time() + direction.delay, b""))
    try:
        await delivering
    except OSError:
        writer.close()


async def serve(listen: int, link: Link) -> None:
    server = await asyncio.start_server(link.accept, "127.0.0.1", listen, limit=4 * PIECE)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=10, metavar="MS", help="in each direction")
    parser.add_argument(
        "--rate", type=float, default=125e6, metavar="BYTES", help="a second, of each direction"
    )
    parser.add_argument("--window", type=int, default=2 << 20, metavar="BYTES", help="of a connection")
    parser.add_argument("--stall", default="0:0", metavar="SHARE:SECONDS", help="requests that are held")
    arguments = parser.parse_args()
    share, seconds = map(float, arguments.stall.split(":"))
    host, port = arguments.to.rsplit(":", 1)
    up = Direction(arguments.rate, arguments.delay / 1000, (share, seconds))
    down = Direction(arguments.rate, arguments.delay / 1000)
    asyncio.run(serve(arguments.listen, Link((host, int(port)), arguments.window, up, down)))


if __name__ == "__main__":
    main()
