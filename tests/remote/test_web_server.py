"""A base behind a real web server."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
import fvd.aio
from fvd.types import Format
from support.fault_server import until
from support.nginx import Nginx, serving
from support.processes import overlay_of_another_process

MIB = 1 << 20
DATA = os.urandom(3 * MIB)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with serving(tmp_path / "nginx") as nginx:
        yield nginx


def overlay(server: Nginx, path: Path, name: str = "base.raw", format: Format = "raw") -> Path:
    fvd.create(path, backing_file=server.url(name), backing_format=format, trust=server.trust)
    return path


def run(server: Nginx, *arguments: object) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "FVD_CONFIG": "", "FVD_TRUST": server.url("")}
    command = [sys.executable, "-m", "fvd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def test_a_new_overlay_takes_its_size_from_the_server_with_one_request_and_looks_for_a_manifest(
    server: Nginx, tmp_path: Path
) -> None:
    server.put("base.raw", DATA)
    made = fvd.create(
        tmp_path / "vm.fvd", backing_file=server.url("base.raw"), backing_format="raw", trust=server.trust
    )
    assert made["size"] == len(DATA)
    # nginx logs a request after its answer.
    until(lambda: len(server.requests()) > 1)
    assert sorted(request.partition(" ")[0] for request in server.requests()) == ["206", "404"]


def test_reads_come_from_the_server_and_are_kept_by_copy_on_read(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(path, "r+", copy_on_read=True, trust=server.trust) as image:
        image.pwrite(b"x" * 4096, MIB)
        assert image.pread(len(DATA), 0) == DATA[:MIB] + b"x" * 4096 + DATA[MIB + 4096 :]
        image.prefetch()
    server.remove("base.raw")
    with fvd.open(path, trust=server.trust) as image:
        assert image.pread(4096, 2 * MIB) == DATA[2 * MIB : 2 * MIB + 4096]


def test_an_image_names_the_object_that_it_stands_on(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay(server, tmp_path / "vm.fvd")
    pin = fvd.info(path)["format-specific"]["data"]["base-pin"]
    assert pin["length"] == len(DATA)
    said = run(server, "info", path)
    assert "validator: etag" in said.stdout, said


def test_another_object_is_refused_until_the_user_accepts_it(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay_of_another_process(tmp_path / "vm.fvd", server.url("base.raw"))
    server.put("base.raw", bytes(len(DATA) - 512))
    with pytest.raises(fvd.FvdError, match="backing_pin=update"):
        fvd.open(path, trust=server.trust)
    assert run(server, "amend", "-o", "backing_pin=update", path).returncode == 0
    with fvd.open(path, trust=server.trust) as image:
        assert image.pread(4096, 0) == bytes(4096)


def test_an_object_that_is_replaced_while_it_is_read_fails_the_read(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(path, "r+", copy_on_read=True, trust=server.trust) as image:
        assert image.pread(4096, 0) == DATA[:4096]
        # The ETag of nginx is the length and the second of the last change.
        server.put("base.raw", os.urandom(len(DATA) + 512))
        with pytest.raises(fvd.FvdError, match="another object"):
            image.pread(4096, 2 * MIB + MIB // 2)
        image.pwrite(b"y" * 4096, 2 * MIB)
        image.flush()
        assert image.pread(4096, 2 * MIB) == b"y" * 4096


def test_a_disk_on_a_web_server_is_converted_compared_and_shown(server: Nginx, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(DATA)
    qcow2 = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", source, qcow2], check=True)
    shutil.move(qcow2, tmp_path / "nginx/www/base.qcow2")
    url = server.url("base.qcow2")
    done = run(server, "convert", "-O", "raw", url, tmp_path / "out.raw")
    assert done.returncode == 0, done
    assert (tmp_path / "out.raw").read_bytes() == DATA
    assert run(server, "compare", "-F", "raw", url, source).returncode == 0
    assert "qcow2" in run(server, "info", url).stdout


def test_a_remote_chain_is_read_through_names_relative_to_its_url(server: Nginx, tmp_path: Path) -> None:
    www = tmp_path / "nginx/www"
    (www / "base.raw").write_bytes(DATA)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2"]
    subprocess.run(command, check=True, cwd=www)
    path = overlay(server, tmp_path / "vm.fvd", "top.qcow2", "qcow2")
    with fvd.open(path, trust=server.trust) as image:
        assert image.pread(len(DATA), 0) == DATA


def test_asyncio_reads_from_the_server(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay(server, tmp_path / "vm.fvd")

    async def read() -> list[bytes]:
        async with await fvd.aio.open(path, trust=server.trust) as image:
            return await asyncio.gather(
                *(image.pread(4096, offset) for offset in range(0, len(DATA), MIB // 8))
            )

    pieces = asyncio.run(read())
    assert pieces == [DATA[offset : offset + 4096] for offset in range(0, len(DATA), MIB // 8)]


def test_a_forked_child_opens_the_server_for_itself(server: Nginx, tmp_path: Path) -> None:
    server.put("base.raw", DATA)
    path = overlay(server, tmp_path / "vm.fvd")
    script = (
        "import os, sys, fvd\n"
        "path, trust = sys.argv[1:]\n"
        "with fvd.open(path, trust=[trust]) as image:\n"
        "    image.pread(4096, 0)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        with fvd.open(path, trust=[trust]) as own:\n"
        "            own.pread(4096, 1 << 20)\n"
        "        os._exit(0)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, server.url("")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done


def test_an_object_that_is_not_there_is_said_at_once(server: Nginx, tmp_path: Path) -> None:
    done = run(server, "create", "-b", server.url("none.raw"), "-F", "raw", tmp_path / "vm.fvd")
    assert done.returncode == 1
    assert server.url("none.raw") in done.stderr
    assert "404" in done.stderr, done.stderr
    assert not (tmp_path / "vm.fvd").exists()
