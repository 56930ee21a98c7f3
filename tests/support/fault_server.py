"""A web server that fails as it is told: it serves files in ranges until a test switches it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

DATA = os.urandom(4 << 20)
"""The disk that the fixture `server` of the tests of remote bases has as `base.raw`."""

Fault = Literal["503", "401", "404", "302", "silence", "cut", "closed", "none"]


@dataclass
class FaultServer:
    """Files by name. Each request meets the fault of that moment."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    fault: Fault = "none"
    fails_after: int | None = None
    """After so many requests the server answers with the status `then`."""
    then: str = "503"
    location: str = ""
    """Where a redirect leads."""
    moved: dict[str, str] = field(default_factory=dict)
    """Where the files of these names are now."""
    needs: str | None = None
    """The `Authorization` without which the server answers 401."""
    refused: str | None = None
    """What a URL contains that the server answers with 401."""
    heads: list[str] = field(default_factory=list)
    """The heads of all requests."""
    _server: ThreadingHTTPServer | None = None
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def trust(self) -> list[str]:
        return [self.url("")]

    def url(self, name: str) -> str:
        return f"{self.host}/{name}"

    def put(self, name: str, data: bytes) -> str:
        self.files[name] = data
        return self.url(name)

    def start(self) -> None:
        """Listens, on the same port as before."""
        handler = type("Handler", (_Handler,), {"faults": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Closes the port and all connections."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        self.hang_up()

    def fail(self, fault: Fault) -> None:
        """From now on, each request meets this."""
        self.fault = fault
        if fault == "closed":
            self.stop()

    def recover(self) -> None:
        """Answers as it should. What was silent is over."""
        self.fault = "none"
        if self._server is None:
            self.start()
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Closes all connections."""
        with self._lock:
            for client in self._open:
                try:
                    client.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def refuses(self, path: str, authorization: str | None) -> bool:
        """Whether such a request has no valid credential."""
        is_expired = self.refused is not None and self.refused in path
        return is_expired or (self.needs is not None and authorization != self.needs)

    def count(self) -> int:
        return len(self.heads)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    faults: FaultServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.faults._lock:
            self.faults._open.add(self.connection)

    def finish(self) -> None:
        with self.faults._lock:
            self.faults._open.discard(self.connection)
        try:
            super().finish()
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at `heads`."""

    def do_GET(self) -> None:
        faults = self.faults
        faults.heads.append(f"{self.requestline}\n{self.headers}")
        name = self.path.lstrip("/").partition("?")[0]
        data = faults.files.get(name)
        if faults.fault == "silence":
            # Until the test hangs up.
            self.connection.recv(1)
            self.close_connection = True
        elif faults.fault == "302":
            self.answer(302, Location=faults.location)
        elif faults.fault in ("503", "401", "404"):
            self.answer(int(faults.fault))
        elif faults.fails_after is not None and faults.count() > faults.fails_after:
            self.answer(int(faults.then))
        elif faults.refuses(self.path, self.headers["Authorization"]):
            self.answer(401)
        elif name in faults.moved:
            self.answer(302, Location=faults.moved[name])
        elif data is None:
            self.answer(404)
        else:
            self.serve(data)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.faults.fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def serve(self, data: bytes) -> None:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        end = min(int(last) + 1, len(data))
        part = data[int(first) : end]
        tag = f'"{hash(data):x}"'
        self.answer(206, part, ETag=tag, Content_Range=f"bytes {first}-{end - 1}/{len(data)}")


@contextmanager
def serving() -> Iterator[FaultServer]:
    """A server until the end of the block."""
    server = FaultServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until `condition` holds. The limit is only for tests that hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
