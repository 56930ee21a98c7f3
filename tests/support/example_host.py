"""The host of the examples, `https://images.example.org`: nginx, and a proxy that leads there."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import run
from support.nginx import serving

HOST = "images.example.org"
TLS = "ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"


@contextmanager
def example_host(folder: Path, disks: list[Path]) -> Iterator[dict[str, str]]:
    """Serves the files until the end of the block. Yields the environment that leads programs there."""
    folder.mkdir()
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
    names = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", *leaf)
    run("openssl", *new, "-keyout", folder / "key.pem", "-out", folder / "cert.pem", *names)
    with serving(folder / "nginx", tls=TLS.format(folder=folder)) as nginx, proxy(nginx.port) as port:
        for disk in disks:
            nginx.put(disk.name, disk.read_bytes())
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "SSL_CERT_FILE": str(folder / "cert.pem")}


@contextmanager
def proxy(to: int) -> Iterator[int]:
    """A proxy for HTTPS that leads to a port of this machine, whatever it is asked for. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=connect, args=(client, to), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake the thread.
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


def connect(client: socket.socket, to: int) -> None:
    with client, socket.create_connection(("127.0.0.1", to)) as server:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(f"CONNECT {HOST}:443 ".encode()), head
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=carry, args=(server, client))
        back.start()
        carry(client, server)
        back.join()


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()
