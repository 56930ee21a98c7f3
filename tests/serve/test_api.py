"""`fvd.serve`: a server in this process."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import fvd
from support import MIB, fvd_command, run

from .processes import ENDS, greedy_client, io, wait_until


def test_a_server_is_a_context_manager(image: Path, socket: Path) -> None:
    with fvd.serve(image, socket=socket) as server:
        assert server.uri == f"nbd+unix:///?socket={socket}"
        io(server.uri, "write -P 7 0 1M")
        stats = server.stats()
        assert stats["requests"]["write"] == {"requests": 1, "bytes": MIB, "errors": 0}
        assert stats["connections"]["total"] == 1
        counters = stats["exports"][""]["image"]
        assert counters is not None
        assert counters["written-bytes"] == MIB
        with pytest.raises(fvd.InUseError):
            fvd.open(image, "r+")
    assert server.closed
    with pytest.raises(ValueError, match="stopped"):
        server.stats()
    server.stop()
    with fvd.open(image) as disk:
        assert disk.pread(MIB, 0) == b"\7" * MIB
    fvd_command("check", image)


def test_several_disks_on_a_free_port(image: Path, overlay: Path) -> None:
    with fvd.serve({"a": image, "b": overlay}, bind="127.0.0.1") as server:
        assert [uri.rpartition("/")[2] for uri in server.uris] == ["a", "b"]
        io(server.uris[1], "read -P 7 4M 64k")


def test_the_caller_sets_the_polling_time(image: Path, socket: Path) -> None:
    for limit in (0, 500_000):
        with fvd.serve(image, socket=socket, poll_max_ns=limit) as server:
            polled = 0
            for _ in range(50):
                run("qemu-img", "bench", "-f", "raw", "-c", "5000", "-d", "1", "-s", "512", server.uri)
                polled = server.stats()["polled"]
                if limit == 0 or polled > 0:
                    break
            assert (polled > 0) == (limit > 0)
    for wrong in (-1, 500_001, 1 << 64):
        with pytest.raises(ValueError, match="poll_max_ns must be between 0 and 500000"):
            fvd.serve(image, socket=socket, poll_max_ns=wrong)


def test_waiting_ends_with_the_last_client_or_with_a_stop(image: Path, socket: Path) -> None:
    with fvd.serve(image, socket=socket, persistent=False) as server:
        assert not server.wait(0.05)
        io(server.uri, "read 0 512")
        assert server.wait(30)
    with fvd.serve(image, socket=socket) as server:
        timer = threading.Timer(0.2, server.stop)
        timer.start()
        assert server.wait(30)
        timer.join()


def test_the_event_loop_runs_while_a_server_runs(image: Path, socket: Path) -> None:
    async def work() -> None:
        async with fvd.serve(image, socket=socket) as server:
            process = await asyncio.create_subprocess_exec("nbdinfo", "--size", server.uri, stdout=-1)
            out, _ = await process.communicate()
            assert int(out) == 16 * MIB

    asyncio.run(work())


def test_a_failed_serve_leaves_no_server(image: Path, tmp_path: Path, socket: Path) -> None:
    with pytest.raises(fvd.FvdError):
        fvd.serve({"a": image, "b": tmp_path / "nothing"}, socket=socket)
    with pytest.raises(ValueError, match="nothing to serve"):
        fvd.serve({}, socket=socket)
    with pytest.raises(ValueError, match="no port"):
        fvd.serve(image, socket=socket, port=1)
    (tmp_path / "file").touch()
    with pytest.raises(fvd.InUseError):
        fvd.serve(image, socket=tmp_path / "file")
    assert not socket.exists()
    fvd.open(image, "r+").close()


def test_an_unstopped_server_warns_and_closes_its_disks(image: Path, socket: Path) -> None:
    server = fvd.serve(image, socket=socket)
    io(server.uri, "write -P 1 0 512")
    with pytest.warns(ResourceWarning, match="unclosed server of nbd"):
        del server
    with fvd.open(image) as disk:
        assert disk.pread(512, 0) == b"\1" * 512


def test_a_second_stop_waits_and_an_interrupt_ends_only_the_wait(image: Path, socket: Path) -> None:
    server = fvd.serve(image, socket=socket)
    also = threading.Thread(target=server.stop)
    main = threading.main_thread().ident
    assert main is not None
    # If the tests run in the background, SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        # The main thread waits for the client.
        wait_until(lambda: not socket.exists())
        signal.pthread_kill(main, signal.SIGINT)

    with greedy_client(socket, 16 * MIB):
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        signal.signal(signal.SIGINT, before)
        also.start()
        also.join(0.3)
        assert also.is_alive(), "the client still has its replies to take"
    also.join(ENDS)
    fvd.open(image, "r+").close()


def test_a_forked_child_cannot_use_a_server_and_does_not_hang(image: Path, socket: Path) -> None:
    script = """
        import os, sys, threading, time, fvd

        server = fvd.serve(sys.argv[1], socket=sys.argv[2])
        threading.Thread(target=server.wait).start()
        time.sleep(0.3)
        child = os.fork()
        if child == 0:
            try:
                server.wait()
            except ValueError as error:
                assert "forked" in str(error)
            server.stop()
            assert server.closed and server.connections == 0
            del server
            sys.exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert not server.closed
        server.stop()
        sys.exit(status)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(image), str(socket)]
    assert subprocess.run(command, timeout=60).returncode == 7
    fvd.open(image, "r+").close()
