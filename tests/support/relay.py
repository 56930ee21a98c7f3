"""Stands between a program and a store: passes requests on, and holds or refuses those that a test names."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Verdict = Literal["pass", "hold", "503", "404", "403", "cut"]


@dataclass
class Relay:
    """Passes requests on to the server at `port`."""

    server_port: int
    port: int = 0
    decide: Callable[[str, str], Verdict] = lambda method, path: "pass"
    """What happens to a request, by method and path."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """All requests: method and path."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends all that is held."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    relay: Relay
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at `seen`."""

    def handle_any(self) -> None:
        relay = self.relay
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        relay.seen.append((self.command, self.path))
        verdict = relay.decide(self.command, self.path)
        if verdict == "hold":
            relay.released.wait(300)
            self.close_connection = True
            return
        if verdict == "cut":
            self.close_connection = True
            return
        if verdict in ("503", "404", "403"):
            self.send_response(int(verdict))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        server = http.client.HTTPConnection("127.0.0.1", relay.server_port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        # A signature has the host in it.
        server.putheader("Host", self.headers["Host"])
        for name, value in headers.items():
            server.putheader(name, value)
        server.endheaders(body)
        answer = server.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        server.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def relaying(server_port: int) -> Iterator[Relay]:
    """A relay until the end of the block."""
    relay = Relay(server_port)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"relay": relay}))
    relay.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield relay
    finally:
        relay.released.set()
        server.shutdown()
        server.server_close()
