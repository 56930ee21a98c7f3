"""`fvd serve`: what it serves, to which clients, and its errors."""

import fcntl
import json
import os
import re
import signal
import socket as sockets
import subprocess
from pathlib import Path

import pytest

import fvd
from support import FVD, KIB, MIB, TOOLS_ENV, fvd_command, run

from .processes import io, refused, serving


def info(uri: str) -> dict[str, object]:
    [export] = json.loads(run("nbdinfo", "--json", uri).stdout)["exports"]
    assert isinstance(export, dict)
    return export


def test_what_a_client_writes_is_in_the_image(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", image) as server:
        io(server.uri, "write -P 7 1M 64k", "write -P 8 3000 5", "flush")
        io(server.uri, "read -P 7 1M 64k", "write -z -u 1M 32k")
        server.end()
    assert not socket.exists()
    with fvd.open(image) as disk:
        assert disk.pread(7, 2999) == b"\0" + b"\x08" * 5 + b"\0"
        assert disk.pread(64 << 10, MIB) == bytes(32 << 10) + b"\7" * (32 << 10)
    fvd_command("check", image)


def test_a_program_reads_when_it_is_ready_and_where(image: Path, socket: Path) -> None:
    words = ("-k", socket, "-t", "-r", "--output=json", f"disk={image}")
    with subprocess.Popen([FVD, "serve", *words], stdout=subprocess.PIPE, env=TOOLS_ENV) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready == {
                "state": "ready",
                "pid": process.pid,
                "exports": [{"name": "disk", "file": str(image)}],
                "read-only": True,
                "uris": [f"nbd+unix:///disk?socket={socket}"],
                "metrics": None,
                "warning": None,
            }
            assert info(ready["uris"][0])["export-size"] == 16 * MIB
        finally:
            process.terminate()
    assert process.returncode == 0


def test_it_ends_with_the_last_client_unless_persistent(image: Path, socket: Path) -> None:
    with serving("-k", socket, image) as server:
        io(server.uri, "read 0 512")
        server.assert_ended_well()


def test_a_free_port_is_found_and_printed(image: Path) -> None:
    with serving("-b", "127.0.0.1", "-p", "0", "-t", "-x", "the disk", image) as server:
        assert server.uri.startswith("nbd://127.0.0.1:")
        assert server.uri.endswith("/the%20disk")
        assert info(server.uri)["export-size"] == 16 * MIB
        server.end(signal.SIGINT)


def test_a_held_lock_on_the_folder_is_skipped_with_a_note(image: Path, socket: Path) -> None:
    folder = os.open(socket.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    with serving("-k", socket, image) as server:
        io(server.uri, "read 0 512")
        _, said = server.process.communicate(timeout=30)
        assert said.decode().startswith(f"fvd: The lock on the folder {socket.parent} could not be had: ")
        assert said.count(b"\n") == 1
    os.close(folder)


def test_several_disks_have_names(image: Path, overlay: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "-e", "0", f"one={image}", f"two={overlay}") as server:
        listed = json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix://?socket={socket}").stdout)
        assert [export["export-name"] for export in listed["exports"]] == ["one", "two"]
        io(f"nbd+unix:///two?socket={socket}", "read -P 7 4M 4M")
        server.end(signal.SIGHUP)


def test_a_client_learns_what_a_disk_supports(overlay: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "-D", "words", overlay) as server:
        export = info(server.uri)
        assert export["description"] == "words"
        assert export["block_size_preferred"] == 64 << 10
        assert export["can_trim"] is True
        assert export["can_cache"] is True
        assert export["can_fast_zero"] is True
        assert export["is_read_only"] is False
        assert export["can_multi_conn"] is False, "a second connection would wait for the first one"
        server.end()
    with serving("-k", socket, "-t", "-r", "-e", "2", "--discard", "ignore", overlay) as server:
        export = info(server.uri)
        assert export["is_read_only"] is True
        assert export["can_multi_conn"] is True
        server.end()


def test_the_map_shows_holes_and_depth(overlay: Path, socket: Path) -> None:
    def extents(context: str) -> list[tuple[int, int]]:
        uri = f"nbd+unix:///?socket={socket}"
        mapped = json.loads(run("nbdinfo", "--json", f"--map={context}", uri).stdout)
        return [(extent["offset"], extent["type"]) for extent in mapped]

    with serving("-k", socket, "-t", "-A", overlay) as server:
        io(server.uri, "write -P 1 0 64k", "write -z -u 4M 64k")
        zeroed = (4 << 20) + (64 << 10)
        assert extents("base:allocation") == [(0, 0), (64 << 10, 3), (zeroed, 0), (8 << 20, 3)]
        depth = extents("qemu:allocation-depth")
        assert depth[:4] == [(0, 1), (64 << 10, 2), (4 << 20, 1), (zeroed, 2)]
        server.end()


def test_caching_makes_blocks_local(overlay: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", overlay) as server:
        connect = f"import nbd; h = nbd.NBD(); h.connect_uri({server.uri!r})"
        script = f"{connect}; h.cache(3000000, 3 << 20); h.shutdown()"
        run("/usr/bin/python3", "-I", "-c", script)
        server.end()
    with fvd.open(overlay) as disk:
        data = [extent for extent in disk.extents() if extent["depth"] == 0 and extent["data"]]
    end = 94 * 64 * KIB  # the first block after 3000000 + 3 MiB
    assert [(extent["start"], extent["length"]) for extent in data] == [(4 * MIB, end - 4 * MIB)]


def test_a_raw_disk_is_served_if_its_format_is_given(tmp_path: Path, socket: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\5" * 70_000)
    with serving("-k", socket, "-t", "-f", "raw", disk) as server:
        io(server.uri, "read -P 5 0 512", "write -P 6 60000 10000", "write -z -u 0 4k", "flush")
        server.end()
    assert disk.read_bytes() == bytes(4096) + b"\5" * (60_000 - 4096) + b"\6" * 10_000
    assert "say what it is" in refused("-k", socket, disk)


def test_a_qcow2_disk_is_served_read_only(tmp_path: Path, socket: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M")
    run("qemu-io", "-c", "write -P 9 64k 64k", disk)
    with serving("-k", socket, "-r", "-f", "qcow2", disk) as server:
        run("qemu-io", "-r", "-f", "raw", "-c", "read -P 9 64k 64k", "-c", "read -P 0 0 64k", server.uri)
        server.assert_ended_well()
    assert "read-only (-r)" in refused("-k", socket, "-f", "qcow2", disk)


def test_passed_sockets_are_used_and_nothing_is_printed(image: Path) -> None:
    done = run("nbdinfo", "--size", "--", "[", FVD, "serve", image, "]")
    assert done.stdout.decode().strip() == str(16 * MIB)
    other = subprocess.run(
        [FVD, "serve", "-k", "x", image],
        env=TOOLS_ENV | {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        cwd="/nowhere" if Path("/nowhere").exists() else "/proc",
        capture_output=True,
        check=False,
    )
    assert b"Could not listen" in other.stderr, "sockets for another process are not ours"


def test_a_failure_to_listen_is_explained(image: Path, tmp_path: Path, socket: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"Could not listen on '{file}': " in refused("-k", file, image)
    assert file.read_text() == "mine"
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused("-b", "127.0.0.1", "-p", port, image)
        assert "Address already in use (-p chooses another port" in said
        assert "for metrics" in refused("-k", socket, "--metrics", f"127.0.0.1:{port}", image)
    with serving("-k", socket, "-t", image):
        assert "another server listens on this socket" in refused("-k", socket, "-r", "-U", image)
        assert "Is another process using the image" in refused("-k", tmp_path / "s", image)
    # A killed server has left its socket. A new server can replace it.
    assert socket.exists()
    with serving("-k", socket, "-t", image) as server:
        server.end()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nothing.fvd"], "No such file"),
        (["-p", "65536", "x"], "Invalid port '65536'"),
        (["-e", "-1", "x"], "Invalid number of clients '-1'"),
        (["-k", "s", "-p", "1", "x"], "no port (-p)"),
        (["--cache", "x", "x"], "Invalid cache option: x"),
        (["--discard", "x", "x"], "Invalid discard mode 'x'"),
        (["--detect-zeroes", "maybe", "x"], "off, on or unmap"),
        (["--aio", "posix", "x"], "Invalid aio mode 'posix'"),
        (["--poll-max-ns", "500001", "x"], "Invalid time to poll '500001': a number from 0 to 500000"),
        (["--tls", "require", "x"], "--tls needs"),
        (["x", "y"], "Several disks need names"),
        (["-x", "n", "a=x", "b=y"], "one name of -x"),
        (["-f", "vmdk", "x"], "Unknown file format 'vmdk'"),
        (["--tls-creds", "nothing", "x"], "server-cert.pem"),
    ],
)
def test_contradictory_options_are_refused(words: list[str], why: str, tmp_path: Path) -> None:
    done = run(FVD, "serve", *words, cwd=tmp_path, ok=(1,))
    assert why in done.stderr.decode()


def test_metrics_count_what_clients_did(overlay: Path, socket: Path) -> None:
    import urllib.request

    with serving("-k", socket, "-t", "-x", "disk", "--metrics", "127.0.0.1:0", overlay) as server:
        [line] = [line for line in server.said if line.startswith("Metrics: ")]
        io(server.uri, "read 0 64k", "write 64k 64k")
        with urllib.request.urlopen(line.removeprefix("Metrics: ")) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = answer.read().decode().splitlines()
        assert 'fvd_request_bytes_total{kind="write"} 65536' in lines
        assert 'fvd_image_written_bytes_total{export="disk"} 65536' in lines
        assert "fvd_connections_total 1" in lines
        assert 'fvd_prefetch_finished{export="disk"} 0' in lines
        assert 'fvd_prefetch_paused{export="disk",reason="slow-reads"} 0' in lines
        counts = [line for line in lines if line.startswith("fvd_request_duration_seconds_count")]
        label = re.compile(r'kind="(\w+)",how="(\w+)"} (\d+)')
        ways = [found for line in counts for found in label.findall(line)]
        for kind in ("read", "write"):
            assert sum(int(count) for of, _, count in ways if of == kind) == 1, counts
        assert {how for _, how, _ in ways} <= {"inline", "ring", "thread", "wait"}
        buckets = [line for line in lines if 'le="+Inf"' in line]
        assert len(buckets) == len(counts)
        server.end()


@pytest.mark.parametrize("read_only", [False, True])
def test_the_local_bytes_are_reported_without_prefetch(read_only: bool, overlay: Path, socket: Path) -> None:
    import urllib.request

    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"x" * (3 * MIB), 1 * MIB)
    options: list[str | Path] = ["-k", socket, "-t", "-x", "disk", "--metrics", "127.0.0.1:0"]
    with serving(*options, *(["-r"] if read_only else []), overlay) as server:
        [line] = [line for line in server.said if line.startswith("Metrics: ")]

        def metrics() -> list[str]:
            with urllib.request.urlopen(line.removeprefix("Metrics: ")) as answer:
                text: str = answer.read().decode()
            return text.splitlines()

        assert f'fvd_prefetch_local_bytes{{export="disk"}} {3 * MIB}' in metrics()
        if not read_only:
            io(server.uri, "write 6M 64k")
            assert f'fvd_prefetch_local_bytes{{export="disk"}} {3 * MIB + 65536}' in metrics()
        server.end()
