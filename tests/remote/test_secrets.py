"""A credential from the configuration is sent to its server, and is seen nowhere else."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import FVD, MIB, TOOLS_ENV
from support.fault_server import FaultServer, serving, until

SECRET = "hunter2-hunter2"
DATA = os.urandom(2 * MIB)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving() as server:
        server.put("base.raw", DATA)
        server.needs = f"Bearer {SECRET}"
        yield server


@pytest.fixture
def environ(server: FaultServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a command whose configuration has the credential."""
    config = tmp_path / "remote.toml"
    headers = f'headers = {{ Authorization = "Bearer {SECRET}" }}'
    config.write_text(f'[[remote]]\nprefix = "{server.host}"\n{headers}\n')
    return {**TOOLS_ENV, "FVD_REMOTE_CONFIG": str(config), "FVD_CONFIG": "", "FVD_TRUST": server.url("")}


def run(environ: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FVD, *words], capture_output=True, text=True, check=False, env=environ)


def test_no_output_shows_a_credential(server: FaultServer, environ: dict[str, str], tmp_path: Path) -> None:
    url, path = server.url("base.raw"), tmp_path / "vm.fvd"
    report = ["--base-error=report", "--base-timeout=0.3"]
    said = []
    commands: list[list[str | Path]] = [
        ["create", "-b", url, "-F", "raw", path],
        ["info", "--backing-chain", path],
        ["info", "--output=json", "--backing-chain", path],
        ["map", "--output=json", path],
    ]
    for words in commands:
        done = run(environ, "--log-level", "trace", *words)
        assert done.returncode == 0, done
        said.append(done)
    assert any(f"Authorization: Bearer {SECRET}" in head or SECRET in head for head in server.heads)
    for fault in ("401", "503", "404"):
        server.heads.clear()
        server.fails_after, server.then = 1, fault
        done = run(environ, "--log-level", "trace", "convert", *report, "-O", "raw", path, tmp_path / "out")
        assert done.returncode == 1, done
        server.fails_after = None
        said.append(done)
    environ = {**environ, "FVD_REMOTE_CONFIG": str(broken(tmp_path))}
    done = run(environ, "info", "--backing-chain", path)
    assert done.returncode == 1
    assert "Line 3" in done.stderr, done
    said.append(done)
    for done in said:
        assert SECRET not in done.stdout + done.stderr, done.args
    assert SECRET.encode() not in path.read_bytes()


def broken(folder: Path) -> Path:
    path = folder / "broken.toml"
    path.write_text(f'[[remote]]\nprefix = "https://x"\nheader = {{ Authorization = "{SECRET}" }}\n')
    return path


def test_no_metric_and_no_log_of_a_server_shows_a_credential(
    server: FaultServer, environ: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "vm.fvd"
    assert run(environ, "create", "-b", server.url("base.raw"), "-F", "raw", path).returncode == 0
    options = ["-t", "-k", f"{tmp_path}/s", "--log-level=trace", "--metrics=localhost:0"]
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [FVD, "serve", *options, path], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environ
        ) as process,
    ):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        url = next(line for line in lines if line.startswith("Metrics: ")).split()[1]
        server.fail("503")
        reader = subprocess.Popen(
            ["qemu-io", "-r", "-f", "raw", "-c", "read 1M 4k", f"nbd+unix:///?socket={tmp_path}/s"],
            stdout=subprocess.DEVNULL,
            env=TOOLS_ENV,
        )
        until(lambda: "store does not answer" in log.read_text())
        with urllib.request.urlopen(url) as answer:
            metrics = answer.read().decode()
        assert "fvd_remote_outage_seconds" in metrics
        server.recover()
        assert reader.wait() == 0
        process.terminate()
    assert server.host in log.read_text()
    for text in (metrics, log.read_text(), *lines):
        assert SECRET not in text


def test_a_broken_configuration_is_read_again_once_it_is_whole(server: FaultServer, tmp_path: Path) -> None:
    config, path = broken(tmp_path), tmp_path / "vm.fvd"
    script = """
import json, os, sys, fvd
config, url, secret = sys.argv[1:]
trust = [url]
def create():
    fvd.create("vm.fvd", backing_file=url, backing_format="raw", trust=trust)
try:
    create()
except (fvd.FvdError, ValueError) as error:
    refused = str(error)
with open(config, "w") as file:
    file.write(f'[[remote]]\\nprefix = "{url}"\\nheaders = {{ Authorization = "Bearer {secret}" }}\\n')
create()
with fvd.open("vm.fvd", trust=trust) as image:
    image.pread(4096, 0)
print(json.dumps(refused))
"""
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script, config, server.url("base.raw"), SECRET],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "FVD_REMOTE_CONFIG": str(config)},
    )
    assert done.returncode == 0, done
    assert "Line 3" in json.loads(done.stdout)
    assert path.exists()
