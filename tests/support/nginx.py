"""A real web server for tests of bases that are far away."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """daemon off; master_process off; pid pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  log_format ranges '$status $http_range';
  access_log access ranges;
  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  server {{ listen 127.0.0.1:{port}{ssl}; {tls} root www; }}
}}
"""


@dataclass
class Nginx:
    """A server whose files are in a folder."""

    folder: Path
    port: int

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def trust(self) -> list[str]:
        return [self.url("")]

    def put(self, name: str, data: bytes) -> str:
        """Replaces a file, and returns its URL."""
        new = self.folder / "new"
        new.write_bytes(data)
        new.rename(self.folder / "www" / name)
        return self.url(name)

    def remove(self, name: str) -> None:
        (self.folder / "www" / name).unlink()

    def requests(self) -> list[str]:
        """Status and range of each request so far."""
        return (self.folder / "access").read_text().splitlines()


@contextmanager
def serving(folder: Path, tls: str = "") -> Iterator[Nginx]:
    """Runs nginx (`scripts/install-tools.sh` installs it) until the end of the block.

    `tls`: the lines for its certificate.
    """
    (folder / "www").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(CONFIGURATION.format(port=port, tls=tls, ssl=" ssl" if tls else ""))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "nginx is missing"
    command: list[str | Path] = [program, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            while not listens(port):
                assert process.poll() is None, "nginx has ended"
                time.sleep(0.01)
            yield Nginx(folder, port)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
