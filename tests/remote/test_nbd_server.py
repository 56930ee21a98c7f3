"""A base on a real NBD server: qemu-nbd, nbdkit, and `fvd serve`."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
import fvd.aio
from support import KIB, MIB, TOOLS_ENV, run
from support.disks import allocated, random_disk
from support.nbd_servers import NbdServer, exporting
from support.serving import Server

SIZE = 32 * MIB + 4 * KIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of which three quarters are holes."""
    return random_disk(tmp_path / "disk.raw", SIZE, seed=7, density=0.25, piece=MIB)


@pytest.fixture(params=["qemu-nbd", "nbdkit"])
def server(request: pytest.FixtureRequest, disk: Path) -> Iterator[NbdServer]:
    with exporting(request.param, disk) as server:
        yield server


@pytest.fixture
def qemu(disk: Path) -> Iterator[NbdServer]:
    with exporting("qemu-nbd", disk) as server:
        yield server


def overlay(server: NbdServer, path: Path) -> Path:
    fvd.create(path, backing_file=server.url, backing_format="raw", trust=server.trust)
    return path


def command(server: NbdServer, *words: object) -> subprocess.CompletedProcess[str]:
    environ = {**TOOLS_ENV, "FVD_CONFIG": "", "FVD_TRUST": server.trust[0]}
    line = ["fvd", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environ, timeout=240)


def test_an_overlay_reads_through_to_the_export_and_shows_its_pin(
    server: NbdServer, disk: Path, tmp_path: Path
) -> None:
    path = overlay(server, tmp_path / "vm.fvd")
    pin = fvd.info(path)["format-specific"]["data"]["base-pin"]
    assert pin["length"] == SIZE
    said = command(server, "info", path)
    assert server.url in said.stdout, said
    assert "validator: length" in said.stdout, said
    data = disk.read_bytes()
    with fvd.open(path, "r+", copy_on_read=True, trust=server.trust) as image:
        image.pwrite(b"x" * 4096, MIB)
        assert image.pread(SIZE, 0) == data[:MIB] + b"x" * 4096 + data[MIB + 4096 :]


def test_a_source_is_converted_to_the_same_bytes_and_keeps_its_holes(
    server: NbdServer, disk: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.raw"
    done = command(server, "convert", "-f", "raw", "-O", "raw", server.url, out)
    assert done.returncode == 0, done
    assert out.read_bytes() == disk.read_bytes()
    assert allocated(out) <= allocated(disk) + MIB
    assert command(server, "compare", "-f", "raw", "-F", "raw", server.url, disk).returncode == 0
    assert "raw" in command(server, "info", "-f", "raw", server.url).stdout
    assert command(server, "map", "-f", "raw", server.url).returncode == 0


def test_what_the_server_knows_to_be_zeros_is_not_fetched(disk: Path, tmp_path: Path) -> None:
    data = disk.read_bytes()
    with exporting("nbdkit", disk) as server:
        path = overlay(server, tmp_path / "vm.fvd")
        with fvd.open(path, "r+", copy_on_read=True, trust=server.trust) as image:
            image.prefetch()
        fetched = server.bytes_read()
        # Units of 256 KiB, of which one may be fetched for the format.
        assert allocated(disk) <= fetched <= allocated(disk) + MIB
        out = tmp_path / "out.raw"
        assert command(server, "convert", "-f", "raw", "-O", "raw", server.url, out).returncode == 0
        assert server.bytes_read() <= 2 * (allocated(disk) + MIB)
    with fvd.open(path, trust=server.trust) as image:
        assert image.pread(SIZE, 0) == data, "the server is gone"


def test_reads_wait_for_a_server_that_is_started_again(qemu: NbdServer, disk: Path, tmp_path: Path) -> None:
    path = overlay(qemu, tmp_path / "vm.fvd")
    data = disk.read_bytes()
    with fvd.open(path, trust=qemu.trust) as image:
        assert image.pread(4096, 0) == data[:4096]
        qemu.stop()
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(image.pread(MIB, 16 * MIB)))
        reader.start()
        reader.join(0.3)
        assert reader.is_alive(), "it waits"
        qemu.start()
        reader.join(120)
        assert found == [data[16 * MIB : 17 * MIB]]


def test_an_export_of_another_size_is_refused_until_the_user_accepts_it(
    qemu: NbdServer, disk: Path, tmp_path: Path
) -> None:
    path = overlay(qemu, tmp_path / "vm.fvd")
    with fvd.open(path, trust=qemu.trust) as image:
        image.pread(4096, 0)
        qemu.stop()
        os.truncate(disk, SIZE - MIB)
        qemu.start()
        with pytest.raises(fvd.FvdError, match="no longer what it was"):
            image.pread(4096, 16 * MIB)
    with pytest.raises(fvd.FvdError, match="backing_pin=update"):
        fvd.open(path, trust=qemu.trust)
    done = command(qemu, "amend", "-o", "backing_pin=update", path)
    assert done.returncode == 0, done
    with fvd.open(path, trust=qemu.trust) as image:
        assert image.pread(4096, 16 * MIB) == disk.read_bytes()[16 * MIB : 16 * MIB + 4096]


def test_the_socket_must_be_trusted_and_not_only_the_export(qemu: NbdServer, tmp_path: Path) -> None:
    path = overlay(qemu, tmp_path / "vm.fvd")
    for trust in ([], ["nbd+unix:///?socket=/run/other"], ["nbd://localhost"]):
        with pytest.raises(fvd.FvdError, match="is not trusted"):
            fvd.open(path, trust=trust)
    assert command(qemu, "compare", "-F", "raw", path, qemu.disk).returncode == 0, "FVD_TRUST"


def test_a_disk_that_fvd_serves_is_a_base_of_another_one(disk: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.fvd"
    run("fvd", "convert", "-f", "raw", "-O", "fvd", disk, inner)
    with Server("-r", "-x", "a disk", inner) as served:
        url = f"nbd+unix:///a%20disk?socket={served.socket}"
        path = tmp_path / "vm.fvd"
        fvd.create(path, backing_file=url, backing_format="raw", trust=[url])
        with fvd.open(path, "r+", copy_on_read=True, trust=[url]) as image:
            assert image.pread(SIZE, 0) == disk.read_bytes()
            image.prefetch()
        assert allocated(path) <= allocated(disk) + 4 * MIB, "holes stay holes"
    with fvd.open(path, trust=[url]) as image:
        assert image.pread(MIB, 8 * MIB) == disk.read_bytes()[8 * MIB : 9 * MIB]


def test_an_export_is_served_again(qemu: NbdServer, disk: Path, tmp_path: Path) -> None:
    with Server("-r", "-f", "raw", qemu.url) as served:
        out = tmp_path / "out.raw"
        run("nbdcopy", served.uri, out)
        assert out.read_bytes() == disk.read_bytes()


def test_a_qcow2_image_on_an_export_is_a_base(disk: Path, tmp_path: Path) -> None:
    qcow2 = tmp_path / "disk.qcow2"
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, qcow2)
    with exporting("nbdkit", qcow2) as server:
        path = tmp_path / "vm.fvd"
        fvd.create(path, backing_file=server.url, backing_format="qcow2", trust=server.trust)
        with fvd.open(path, trust=server.trust) as image:
            assert image.pread(SIZE, 0) == disk.read_bytes()


def test_an_image_on_an_export_names_no_file_next_to_it(disk: Path, tmp_path: Path) -> None:
    base = ["-b", disk.name, "-F", "raw"]
    run("qemu-img", "create", "-q", "-f", "qcow2", *base, "top.qcow2", cwd=tmp_path)
    with exporting("qemu-nbd", tmp_path / "top.qcow2") as server:
        words = ("-b", server.url, "-F", "qcow2", tmp_path / "vm.fvd")
        done = command(server, "create", *words)
        assert done.returncode == 1
        assert "an export of an NBD server is in no folder" in done.stderr, done.stderr


def test_asyncio_reads_from_the_server(server: NbdServer, disk: Path, tmp_path: Path) -> None:
    path = overlay(server, tmp_path / "vm.fvd")
    data = disk.read_bytes()
    offsets = range(0, SIZE, MIB)

    async def read() -> list[bytes]:
        async with await fvd.aio.open(path, trust=server.trust) as image:
            return await asyncio.gather(*(image.pread(4096, offset) for offset in offsets))

    assert asyncio.run(read()) == [data[offset : offset + 4096] for offset in offsets]


def test_an_export_that_is_not_there_is_said_at_once(server: NbdServer, tmp_path: Path) -> None:
    server.stop()
    done = command(server, "create", "-b", server.url, "-F", "raw", tmp_path / "vm.fvd")
    assert done.returncode == 1
    assert server.url in done.stderr
    assert "No such file" in done.stderr, done.stderr
    assert not (tmp_path / "vm.fvd").exists()
