"""Clients that a server admits by default, and its warnings when it admits all."""

import socket as sockets
import subprocess
import warnings
from pathlib import Path

import pytest

import fvd
from support import FVD, TOOLS_ENV, run

from .processes import Serving, serving

WARNING = "fvd: warning: other machines can reach 0.0.0.0:"


def end(server: Serving) -> str:
    """Ends the server, and returns what it printed on stderr."""
    server.process.terminate()
    _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    return said.decode()


def is_reachable(uri: str) -> bool:
    """Whether it listens on every address, including one that no other test binds."""
    port = int(uri.rstrip("/").rpartition(":")[2])
    with sockets.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.99", port)) == 0


def test_without_an_address_only_this_machine_is_served(image: Path) -> None:
    with serving("-p", "0", "-t", image) as server:
        assert {uri.rpartition(":")[0] for uri in server.said[1:]} <= {"nbd://127.0.0.1", "nbd://[::1]"}
        assert not is_reachable(server.uri)
        run("nbdinfo", "--size", server.uri)
        assert end(server) == ""


def test_an_address_that_others_can_reach_causes_a_warning(image: Path) -> None:
    with serving("-b", "0.0.0.0", "-p", "0", "-t", image) as server:
        assert is_reachable(server.uri)
        said = end(server)
        assert said.startswith(WARNING)
        assert said.count("\n") == 1


def test_tls_is_enough_only_if_it_is_required(image: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.psk"
    keys.write_text(f"alice:{'5a' * 32}\n")
    everywhere = ("-b", "0.0.0.0", "-p", "0", "-t", "--tls-psk", keys)
    with serving(*everywhere, image) as server:
        assert end(server) == ""
    with serving(*everywhere, "--tls", "allow", image) as server:
        assert end(server).startswith(WARNING)


def test_a_passed_socket_causes_a_warning_too(image: Path) -> None:
    with sockets.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        serve = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve -t "$1"'
        process = subprocess.Popen(
            ["bash", "-c", serve, FVD, image],
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            env=TOOLS_ENV,
        )
        run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}")
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert said.decode().startswith(WARNING)


def test_the_function_warns_as_the_command_does(image: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"fvd.serve: other machines can reach 0\.0\.0\.0:"):
        server = fvd.serve(image, bind="0.0.0.0")
    with server:
        assert len(server.open_doors) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # As an exception, the warning leaves no server.
        with pytest.raises(RuntimeWarning):
            fvd.serve(image, bind="0.0.0.0")
        with fvd.serve(image) as server:
            assert server.open_doors == []
