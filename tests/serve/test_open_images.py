"""`fvd.serve` with images that are open already."""

import _thread
import asyncio
import json
import operator
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

import fvd
import fvd.aio
from fvd.types import ImageOptions, Mode
from support import KIB, MIB, fvd_command, run
from support.disks import content
from support.forks import run_forking

from .processes import greedy_client, io


class Handle(Protocol):
    """The operations of the tests on an image, however it was opened."""

    def pread(self, count: int, offset: int) -> bytes: ...
    def pwrite(self, data: bytes, offset: int) -> object: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    @property
    def served(self) -> fvd.Image | fvd.aio.Image: ...


class Blocking:
    def __init__(self, path: Path, mode: Mode) -> None:
        self.served = fvd.open(path, mode)
        self.pread = self.served.pread
        self.pwrite = self.served.pwrite
        self.flush = self.served.flush
        self.close = self.served.close


class Asynchronous:
    """Uses a new event loop for each call: an image is not tied to one."""

    def __init__(self, path: Path, mode: Mode) -> None:
        async def opened() -> fvd.aio.Image:
            return await fvd.aio.open(path, mode)

        self.served = asyncio.run(opened())

    def pread(self, count: int, offset: int) -> bytes:
        return asyncio.run(self.served.pread(count, offset))

    def pwrite(self, data: bytes, offset: int) -> int:
        return asyncio.run(self.served.pwrite(data, offset))

    def flush(self) -> None:
        asyncio.run(self.served.flush())

    def close(self) -> None:
        asyncio.run(self.served.close())


KINDS: dict[str, Callable[[Path, Mode], Handle]] = {"blocking": Blocking, "asynchronous": Asynchronous}
each_kind = pytest.mark.parametrize("kind", KINDS)


@contextmanager
def opened(kind: str, path: Path, mode: Mode = "r+") -> Iterator[Handle]:
    image = KINDS[kind](path, mode)
    try:
        yield image
    finally:
        image.close()


def is_closed(image: Handle) -> bool:
    return image.served.closed


def nbdinfo(uri: str) -> dict[str, object]:
    (export,) = json.loads(run("nbdinfo", "--json", uri).stdout)["exports"]
    assert isinstance(export, dict)
    return export


@each_kind
def test_caller_and_clients_see_writes_of_each_other(kind: str, overlay: Path, socket: Path) -> None:
    with opened(kind, overlay) as image:
        with fvd.serve(image.served, socket=socket, description="a disk") as server:
            assert server.uri == f"nbd+unix:///?socket={socket}"
            image.pwrite(b"\1" * MIB, 5 * MIB)
            io(server.uri, "read -P 1 5M 1M", "read -P 7 6M 64k", "write -P 2 5M 512k", "flush")
            assert image.pread(MIB, 5 * MIB) == b"\2" * (512 * KIB) + b"\1" * (512 * KIB)
            io(server.uri, "write -z 5M 64k", "read -P 0 5M 64k")
            assert image.pread(64 * KIB, 5 * MIB) == bytes(64 * KIB)
            run("qemu-io", "-d", "unmap", "-f", "raw", "-c", "discard 6M 1M", server.uri)
            assert image.pread(MIB, 6 * MIB) == bytes(MIB)
            export = nbdinfo(server.uri)
            assert export["export-size"] == 16 * MIB
            assert export["description"] == "a disk"
            assert export["is_read_only"] is False
            assert export["block_size_preferred"] == 64 * KIB
            counters = server.stats()["exports"][""]["image"]
            assert counters is not None
            assert counters["written-bytes"] >= MIB + 512 * KIB
        # The image belongs to the caller, and is still open.
        image.pwrite(b"\3" * 512, 0)
        assert image.pread(512, 0) == b"\3" * 512
    fvd_command("check", overlay)
    with fvd.open(overlay) as again:
        assert again.pread(512, 0) == b"\3" * 512
        assert again.pread(512, 5 * MIB + 64 * KIB) == b"\2" * 512


@each_kind
def test_a_flush_of_either_side_covers_both_sides_writes(kind: str, overlay: Path, socket: Path) -> None:
    script = """
        import asyncio, os, subprocess, sys, fvd, fvd.aio

        async def aio(path):
            image = await fvd.aio.open(path, "r+")
            server = fvd.serve(image, socket=sys.argv[2])
            await image.pwrite(b"\\1" * 4096, 8192)
            await asyncio.to_thread(client, server, "write -P 2 16k 4k", "flush", "write -P 3 32k 4k")
            await image.flush()

        def client(server, *commands):
            words = [word for command in commands for word in ("-c", command)]
            subprocess.run(["qemu-io", "-t", "none", "-f", "raw", *words, server.uri], check=True)

        if sys.argv[3] == "asynchronous":
            asyncio.run(aio(sys.argv[1]))
        else:
            image = fvd.open(sys.argv[1], "r+")
            server = fvd.serve(image, socket=sys.argv[2])
            image.pwrite(b"\\1" * 4096, 8192)
            client(server, "write -P 2 16k 4k", "flush", "write -P 3 32k 4k")
            image.flush()
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(overlay), str(socket), kind]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    with fvd.open(overlay, "r+") as image:
        for offset, value in ((8192, 1), (16 * KIB, 2), (32 * KIB, 3)):
            assert image.pread(4096, offset) == bytes([value]) * 4096


@each_kind
def test_an_image_opened_or_served_read_only_takes_no_writes(kind: str, overlay: Path, socket: Path) -> None:
    with opened(kind, overlay, "r") as image, fvd.serve(image.served, socket=socket) as server:
        assert nbdinfo(server.uri)["is_read_only"] is True
        run("qemu-io", "-r", "-f", "raw", "-c", "read -P 7 4M 64k", server.uri)
    with opened(kind, overlay) as image, fvd.serve(image.served, socket=socket, read_only=True) as server:
        assert nbdinfo(server.uri)["is_read_only"] is True
        image.pwrite(b"\1" * 512, 4 * MIB)
        assert image.pread(512, 4 * MIB) == b"\1" * 512


@each_kind
def test_an_image_cannot_be_closed_while_it_is_served(kind: str, image: Path, socket: Path) -> None:
    with opened(kind, image) as disk:
        with fvd.serve(disk.served, socket=socket) as server:
            with fvd.serve({"too": disk.served}, bind="127.0.0.1") as other:
                with pytest.raises(fvd.InUseError) as error:
                    disk.close()
                assert error.value.strerror == (
                    f"The image is served at {server.uri}, {other.uri}: stop the server first"
                )
                assert error.value.filename == str(image)
            with pytest.raises(fvd.InUseError, match=re.escape(server.uri)):
                disk.close()
            assert not is_closed(disk)
            io(server.uri, "write -P 5 0 4k")
        assert disk.pread(4096, 0) == b"\5" * 4096
    assert is_closed(disk)
    fvd_command("check", image)
    with pytest.raises(ValueError, match="closed image"):
        fvd.serve(disk.served, socket=socket)
    assert not socket.exists()


def test_contexts_in_the_wrong_order_fail_without_data_loss(image: Path, socket: Path) -> None:
    disk = fvd.open(image, "r+")
    server = fvd.serve(disk, socket=socket)
    with pytest.raises(fvd.InUseError), disk:
        io(server.uri, "write -P 5 0 4k")
    disk.pwrite(b"\6" * 512, 4096)
    io(server.uri, "read -P 6 4k 512")
    server.stop()
    disk.close()
    with fvd.open(image) as again:
        assert again.pread(4608, 0) == b"\5" * 4096 + b"\6" * 512


@each_kind
def test_both_sides_write_at_once_and_nothing_is_lost(kind: str, tmp_path: Path, socket: Path) -> None:
    path = tmp_path / "disk.fvd"
    options: ImageOptions = {"compact_image": True, "chunk_size": "64K", "block_size": "16K"}
    (tmp_path / "base.raw").write_bytes(b"\7" * 8 * MIB)
    fvd.create(path, 8 * MIB, backing_file="base.raw", backing_format="raw", options=options)
    rng = random.Random(1)
    model = bytearray(b"\7" * 8 * MIB)
    mine, theirs = [], []
    for number, at in enumerate(rng.sample(range(4096), 300)):
        # Caller and client write alternate KiB, so that they share all blocks.
        offset, value = at * 2 * KIB, 10 + number % 200
        mine.append((offset, value))
        model[offset : offset + KIB] = bytes([value]) * KIB
        offset += KIB
        theirs.append(f"aio_write -q -P {value} {offset} 1k")
        model[offset : offset + KIB] = bytes([value]) * KIB
        if number % 16 == 0:
            theirs.append("aio_flush")
    with opened(kind, path) as image, fvd.serve(image.served, socket=socket) as server:
        client = threading.Thread(target=io, args=(server.uri, *theirs, "aio_flush"))
        client.start()
        for number, (offset, value) in enumerate(mine):
            image.pwrite(bytes([value]) * KIB, offset)
            if number % 16 == 0:
                image.flush()
        client.join()
        assert b"".join(image.pread(MIB, at * MIB) for at in range(8)) == model
    fvd_command("check", path)
    with fvd.open(path) as again:
        assert content(again) == model


def test_an_image_and_a_file_are_served_side_by_side(image: Path, overlay: Path, socket: Path) -> None:
    with fvd.open(image, "r+") as disk, fvd.serve({"open": disk, "file": overlay}, socket=socket) as server:
        io(server.uris[0], "write -P 3 0 4k")
        io(server.uris[1], "write -P 4 0 4k")
        assert disk.pread(4096, 0) == b"\3" * 4096
        with pytest.raises(fvd.InUseError, match=r"/open\?"):
            disk.close()
    with fvd.open(overlay) as other:
        assert other.pread(4096, 0) == b"\4" * 4096


def test_sharing_a_file_by_force_leaves_an_open_image_writable(
    image: Path, overlay: Path, socket: Path
) -> None:
    with (
        fvd.open(image, "r+") as disk,
        fvd.open(overlay, "r+"),
        fvd.serve({"open": disk, "file": overlay}, socket=socket, force_share=True) as server,
    ):
        io(server.uris[0], "write -P 3 0 4k")
        assert [nbdinfo(uri)["is_read_only"] for uri in server.uris] == [False, True]


def test_a_server_that_does_not_start_releases_the_image(image: Path, tmp_path: Path, socket: Path) -> None:
    with fvd.open(image, "r+") as disk:
        with pytest.raises(fvd.FvdError):
            fvd.serve({"a": disk, "b": tmp_path / "nothing"}, socket=socket)
        (tmp_path / "file").touch()
        with pytest.raises(fvd.InUseError, match="no socket"):
            fvd.serve(disk, socket=tmp_path / "file")
    assert disk.closed


def test_options_of_open_are_refused_for_an_open_image(image: Path, socket: Path) -> None:
    with fvd.open(image) as disk:
        with pytest.raises(ValueError, match="`cache` says how to open"):
            fvd.serve(disk, socket=socket, cache="none")
        with pytest.raises(ValueError, match="`copy_on_read` says how to open"):
            fvd.serve({"a": disk}, socket=socket, copy_on_read=False)
        with pytest.raises(TypeError, match="cannot serve 7: a path, an"):
            fvd.serve(7, socket=socket)  # type: ignore[arg-type]


def test_the_caller_controls_prefetch_of_a_served_image(overlay: Path, socket: Path) -> None:
    with fvd.open(overlay, "r+") as disk, fvd.serve(disk, socket=socket) as server:
        before = server.stats()["exports"][""]["prefetch"]
        assert before is not None
        assert (before["state"], before["local"], before["total"]) == ("waiting", 0, 8 << 20)
        assert disk.prefetch()["state"] == "finished"
        prefetch = server.stats()["exports"][""]["prefetch"]
        assert prefetch is not None
        assert prefetch["state"] == "finished"
        io(server.uri, "read -P 7 4M 4M")


def test_close_waits_for_a_stopping_server_interruptibly(image: Path, socket: Path) -> None:
    disk = fvd.open(image, "r+")
    server = fvd.serve(disk, socket=socket)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with greedy_client(socket, 16 * MIB):
        assert server._server.begin_stop()
        with pytest.raises(KeyboardInterrupt):
            # As below: the interrupt comes as the first thing in the close.
            list(map(operator.call, (_thread.interrupt_main, disk.close)))
        signal.signal(signal.SIGINT, before)
        # It is open, and unchanged.
        with fvd.serve(disk, bind="127.0.0.1") as other:
            io(other.uri, "write -P 4 0 4k")
    disk.close()
    server.stop()
    fvd_command("check", image)


def test_an_image_can_be_closed_after_an_interrupted_stop(image: Path, socket: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in range(20):
        disk = fvd.open(image, "r+")
        server = fvd.serve(disk, socket=socket)
        with pytest.raises(KeyboardInterrupt):
            # No bytecode between the two, where Python would handle the signal before the stop begins.
            list(map(operator.call, (_thread.interrupt_main, server._server.stop)))
        disk.close()
        server.stop()
    signal.signal(signal.SIGINT, before)


def test_a_cancelled_task_still_stops_its_server(image: Path, socket: Path) -> None:
    async def serve(disk: fvd.Image) -> None:
        async with fvd.serve(disk, socket=socket):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def work(disk: fvd.Image) -> None:
        busy = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, busy.wait, 30)
        try:
            with pytest.raises(asyncio.CancelledError):
                await serve(disk)
            disk.close()
        finally:
            busy.set()

    asyncio.run(work(fvd.open(image, "r+")))
    fvd_command("check", image)


def test_a_server_keeps_an_image_without_other_references(image: Path, socket: Path) -> None:
    server = fvd.serve(fvd.open(image, "r+"), socket=socket)
    io(server.uri, "write -P 1 0 512")
    with pytest.warns(ResourceWarning) as warned:
        del server
    assert [str(warning.message).split(" of ")[0].split(" /")[0] for warning in warned] == [
        "unclosed server",
        "unclosed image",
    ]
    with fvd.open(image, "r+") as disk:
        assert disk.pread(512, 0) == b"\1" * 512


def test_interpreter_exit_while_serving_loses_nothing(image: Path, socket: Path) -> None:
    script = """
        import subprocess, sys, fvd

        image = fvd.open(sys.argv[1], "r+")
        server = fvd.serve(image, socket=sys.argv[2])
        subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 4 0 4k", server.uri], check=True)
        image.pwrite(b"\\5" * 512, 4096)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(image), str(socket)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr, "served" in done.stderr) == (0, False, False)
    assert not fvd.info(image)["dirty-flag"]
    with fvd.open(image) as disk:
        assert disk.pread(4608, 0) == b"\4" * 4096 + b"\5" * 512


def test_a_forked_child_closes_neither_server_nor_image(image: Path, socket: Path) -> None:
    script = """
        import os, subprocess, sys, fvd

        with fvd.open(sys.argv[1], "r+") as image, fvd.serve(image, socket=sys.argv[2]) as server:
            image.pwrite(b"\\1" * 512, 0)
            if os.fork() == 0:
                try:
                    fvd.serve(image)
                except ValueError as error:
                    assert "forked" in str(error)
                sys.exit(7)
            status = os.waitstatus_to_exitcode(os.wait()[1])
            assert not image.closed and not server.closed
            subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 4 512 512", server.uri], check=True)
        sys.exit(status)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(image), str(socket)]
    assert subprocess.run(command, timeout=60).returncode == 7
    with fvd.open(image) as disk:
        assert disk.pread(1024, 0) == b"\1" * 512 + b"\4" * 512
    fvd_command("check", image)


def test_a_forked_child_closes_nothing_after_the_server_either(tmp_path: Path, socket: Path) -> None:
    path = tmp_path / "disk.fvd"
    # The allocation stays in memory until it is flushed.
    fvd.create(path, 16 * MIB, options={"compact_image": True})
    script = """
        image = fvd.open(path, "r+")
        fvd.serve(image, socket=sys.argv[2]).stop()
        child = fork()
        if child == 0:
            refused(image.pwrite, b"\\1" * 512, 0)
            image.close()
            sys.exit(5)
        assert status(child) == 5
        image.pwrite(b"\\2" * 512, 4096)
        image.flush()
        die()
    """
    run_forking(script, path, socket, status=-9)
    with fvd.open(path) as disk:
        assert disk.pread(8192, 0) == bytes(4096) + b"\2" * 512 + bytes(3584)
    assert fvd.info(path)["dirty-flag"]


def test_a_forked_child_leaves_a_server_of_asyncio_at_once(image: Path, socket: Path) -> None:
    script = """
        import asyncio

        async def main():
            # Start threads, which the child will not have although its executor lists them.
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(4)))
            async with fvd.serve(path, socket=sys.argv[2]) as server:
                child = fork()
                if child == 0:
                    refused(server.stats)
                    refused(server.wait)
                    async with server:
                        pass
                    # Ending an event loop in a child would stop that of its parent.
                    os._exit(5)
                assert status(child) == 5
                assert not server.closed

        asyncio.run(main())
    """
    run_forking(script, image, socket)
    fvd.open(image, "r+").close()


def test_a_child_keeps_no_connection_of_a_killed_server(image: Path) -> None:
    script = """
        import socket

        told, tell = os.pipe()
        lives, dies = os.pipe()
        server = fork()
        if server == 0:
            serving = fvd.serve(path)
            os.write(tell, serving.uri.rstrip("/").rsplit(":", 1)[1].encode())
            os.read(lives, 1)
            forked, ready = os.pipe()
            if fork() == 0:
                os.write(ready, b"x")
                os.close(dies)
                # Wait until the test is over.
                os.read(lives, 1)
                os._exit(0)
            os.read(forked, 1)
            die()
        port = int(os.read(told, 100))
        client = socket.create_connection(("localhost", port))
        client.settimeout(10)
        assert client.recv(18)[:8] == b"NBDMAGIC"
        os.write(dies, b"x")
        assert status(server) == -9
        try:
            # The child of the server still exists.
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        try:
            socket.create_connection(("localhost", port), timeout=10)
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("the child still listens")
    """
    run_forking(script, image)
