"""nginx at the other end of a long link."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NGINX = """daemon off; master_process off; pid pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  log_format ranges '$status $body_bytes_sent';
  access_log access ranges;
  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  sendfile on; keepalive_requests 1000000;
  {zone}
  server {{ listen 127.0.0.1:{port}; root www; {limit} }}
}}
"""


@dataclass(frozen=True)
class Link:
    """What the link is like."""

    delay_ms: float
    """In each direction: a round trip takes twice as long."""
    rate: float
    """Bytes a second."""
    window: int = 2 << 20
    """Bytes of a connection that are under way at most."""
    stall: str = "0:0"


@dataclass(frozen=True)
class Server:
    """A web server, seen over the link."""

    folder: Path
    port: int

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def answers(self) -> tuple[int, int]:
        """Requests and bytes so far."""
        lines = (self.folder / "access").read_text().split("\n")[:-1]
        return len(lines), sum(int(line.split()[1]) for line in lines)


@contextmanager
def far(folder: Path, link: Link, limit: int = 0) -> Iterator[Server]:
    """The files in `folder`/www, over `link`, until the end of the block.

    `limit`: requests a second, after which the server answers 503; 0 for none. A second's worth is saved up.
    """
    (folder / "www").mkdir(parents=True, exist_ok=True)
    near_port, far_port = free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(port=near_port, **limits(limit)))
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        sys.exit("nginx is missing: scripts/install-tools.sh installs it")
    server: list[str | Path] = [nginx, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]
    proxy: list[str | Path] = [build_link()]
    proxy += ["--listen", str(far_port), "--to", f"127.0.0.1:{near_port}", "--window", str(link.window)]
    proxy += ["--delay", str(link.delay_ms), "--rate", str(link.rate), "--stall", link.stall]
    with ExitStack() as stack:
        for command, port in ((server, near_port), (proxy, far_port)):
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            stack.callback(process.terminate)
            wait_for(port)
        yield Server(folder, far_port)


def limits(requests: int) -> dict[str, str]:
    if not requests:
        return {"zone": "", "limit": ""}
    return {
        "zone": f"limit_req_zone $server_name zone=all:1m rate={requests}r/s;",
        "limit": f"limit_req zone=all burst={requests} nodelay;",
    }


def build_link() -> Path:
    """The program of the link."""
    source = Path(__file__).parents[2] / "rust/fvd-remote/examples/far_link.rs"
    program = source.parents[3] / "target/benches/far_link"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", program, source], check=True)
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit(f"nothing listens on port {port}")
