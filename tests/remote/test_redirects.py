"""Where a server may send its readers: a URL of the user anywhere, one of an image where the user trusts."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import FVD, MIB, TOOLS_ENV
from support.fault_server import FaultServer, serving, until
from support.nginx import Nginx
from support.nginx import serving as nginx_serving

DATA = os.urandom(2 * MIB)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Nginx]:
    """The server that has the disk."""
    with nginx_serving(tmp_path / "nginx") as nginx:
        nginx.put("base.raw", DATA)
        yield nginx


@pytest.fixture
def server(target: Nginx) -> Iterator[FaultServer]:
    """A server that redirects to the other one."""
    with serving() as server:
        server.fault, server.location = "302", target.url("base.raw?token=hunter2")
        yield server


def run(*words: str | Path, trust: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**TOOLS_ENV, "FVD_CONFIG": "", "FVD_TRUST": trust}
    return subprocess.run([FVD, *words], capture_output=True, text=True, check=False, env=environ)


def test_a_url_of_the_user_may_be_redirected_to_another_host(
    server: FaultServer, target: Nginx, tmp_path: Path
) -> None:
    url = server.url("base.raw")
    done = run("convert", "-f", "raw", "-O", "raw", url, tmp_path / "out.raw")
    assert done.returncode == 0, done
    assert (tmp_path / "out.raw").read_bytes() == DATA
    fvd.create(tmp_path / "vm.fvd", backing_file=url, backing_format="raw", trust=server.trust)
    assert target.requests()


def test_a_url_of_an_image_is_redirected_only_to_what_is_trusted(
    server: FaultServer, target: Nginx, tmp_path: Path
) -> None:
    path = tmp_path / "vm.fvd"
    fvd.create(path, backing_file=server.url("base.raw"), backing_format="raw", trust=server.trust)
    # For the object and for its manifest. nginx logs a request after its answer.
    until(lambda: len(target.requests()) == 2)
    with pytest.raises(fvd.IoError, match=r"redirect leads to .* which no trusted prefix covers") as refused:
        fvd.open(path, trust=server.trust)
    assert target.url("base.raw") in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert len(target.requests()) == 2
    for trust in (server.trust, [*server.trust, target.url("other")]):
        with pytest.raises(fvd.IoError, match="no trusted prefix covers"):
            fvd.open(path, trust=trust)
    with fvd.open(path, trust=[*server.trust, target.url("")]) as image:
        assert image.pread(len(DATA), 0) == DATA
    done = run("map", path, trust=server.url(""))
    assert done.returncode == 1
    assert "no trusted prefix covers" in done.stderr
    assert run("map", path, trust=f"{server.url('')}:{target.url('')}").returncode == 0


def test_an_open_that_trusts_more_helps_no_other_one(
    server: FaultServer, target: Nginx, tmp_path: Path
) -> None:
    path = tmp_path / "vm.fvd"
    fvd.create(path, backing_file=server.url("base.raw"), backing_format="raw", trust=server.trust)
    shutil.copy(path, tmp_path / "other.fvd")
    with fvd.open(path, trust=[*server.trust, target.url("")]) as image:
        assert image.pread(16, 0) == DATA[:16]
        with pytest.raises(fvd.IoError, match="no trusted prefix covers"):
            fvd.open(tmp_path / "other.fvd", trust=server.trust)


def test_redirects_within_a_host_need_no_more_trust(tmp_path: Path) -> None:
    with serving() as server:
        server.put("base.raw", DATA)
        server.moved["old.raw"] = server.url("base.raw")
        path = tmp_path / "vm.fvd"
        trust = [server.url("old.raw")]
        fvd.create(path, backing_file=server.url("old.raw"), backing_format="raw", trust=trust)
        with fvd.open(path, trust=trust) as image:
            assert image.pread(len(DATA), 0) == DATA
