"""The log of `fvd serve` and of the other commands: `--log-level`, `--log-format`, `FVD_LOG`."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fvd
from support import FVD, MIB, TOOLS_ENV, run

from .processes import ENDS, Serving, io, wait_for_death


@contextlib.contextmanager
def serving(*words: str | Path, **environment: str) -> Iterator[Serving]:
    """A server with these options and variables."""
    command = [FVD, "serve", *words]
    env = TOOLS_ENV | environment
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.communicate()


def log_of(server: Serving) -> list[str]:
    """Ends the server, and returns the lines that it has written to stderr."""
    server.process.send_signal(signal.SIGTERM)
    _, said = server.process.communicate(timeout=ENDS)
    assert server.process.returncode == 0
    return said.decode().splitlines()


def records_of(server: Serving) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_of(server)]


def test_json_lines_tell_requests_and_flushes_from_begin_to_end(image: Path, socket: Path) -> None:
    options = ["--log-level", "trace", "--log-format=json"]
    with serving("-k", socket, "-t", "-x", "disk", *options, image) as server:
        io(server.uri, "write 64k 4k", "flush")
        records = records_of(server)
    for record in records:
        assert list(record) == ["time", "level", "target", "message", "fields", "spans"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"])
    [begun] = [it for it in records if it["message"] == "request begins" and it["fields"]["kind"] == "write"]
    [ended] = [it for it in records if it["message"] == "request ends" and it["fields"]["kind"] == "write"]
    assert (begun["level"], begun["target"]) == ("TRACE", "fvd_nbd::server::connection::receive")
    assert (begun["fields"]["offset"], begun["fields"]["length"]) == (64 << 10, 4 << 10)
    assert ended["fields"]["how"] in ("inline", "thread", "ring", "wait")
    assert ended["fields"]["elapsed_us"] >= 0
    flush = next(it for it in records if it["message"] == "flush ends")
    assert flush["fields"]["file"] == str(image)
    assert [span["name"] for span in flush["spans"]] == ["connection", "request"]
    assert flush["spans"][1]["kind"] in ("flush", "write"), "qemu-io writes with FUA"
    assert any(it["message"] == "the client uses an export" for it in records)
    assert records[-1]["message"] == "close ends"


def test_text_lines_have_time_level_target_and_spans(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", image, FVD_LOG="fvd=debug") as server:
        io(server.uri, "write 64k 4k", "flush")
        lines = log_of(server)
    pattern = r"\S+Z DEBUG fvd::image::flush: connection\{number=1\}: flush ends file=\S+ elapsed_us=\d+"
    assert any(re.fullmatch(pattern, line) for line in lines), lines
    assert not any(" TRACE " in line for line in lines)


def test_problems_keep_their_form_in_text_and_are_objects_in_json(image: Path, socket: Path) -> None:
    message = "the client took too long to end the handshake"
    for options in ([], ["--log-format", "json"]):
        with serving("-k", socket, "-t", "--handshake-limit", "1", *options, image) as server:
            idle(socket)
            lines = log_of(server)
        if options:
            [record] = [json.loads(line) for line in lines]
            assert (record["level"], record["message"]) == ("WARN", message)
            assert record["target"].startswith("fvd_nbd")
        else:
            assert lines == [f"fvd: {message}"]


def idle(socket: Path) -> None:
    """A client that says nothing, until the server disconnects it."""
    import socket as sockets

    with sockets.socket(sockets.AF_UNIX) as client:
        client.connect(str(socket))
        while client.recv(4096):
            pass


def test_an_option_comes_before_the_environment(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "--log-level=warn", image, FVD_LOG="trace") as server:
        io(server.uri, "read 0 4k")
        assert log_of(server) == []


@pytest.mark.parametrize(("word", "wrong"), [("verbose", "verbose"), ("fvd=loud", "loud"), ("x=debug", "x")])
def test_a_wrong_level_is_refused_and_its_source_named(
    word: str, wrong: str, image: Path, socket: Path
) -> None:
    done = run(FVD, "serve", "-k", socket, "--log-level", word, image, ok=(1,))
    assert done.stderr.decode().startswith(f"fvd: --log-level: '{wrong}' is neither a level")
    other = run("env", f"FVD_LOG={word}", FVD, "info", image, ok=(1,))
    assert other.stderr.decode().startswith(f"fvd: FVD_LOG: '{wrong}' is neither a level")
    form = run(FVD, "serve", "-k", socket, "--log-format", "xml", image, ok=(1,))
    assert form.stderr == b"fvd: Invalid log format 'xml': text or json\n"


def test_other_commands_log_too(tmp_path: Path) -> None:
    image = unclean(tmp_path)
    options = ["--log-level", "info", "--log-format=json"]
    standard = run(FVD, *options, "convert", "-O", "raw", image, tmp_path / "a.raw")
    names = [json.loads(line)["message"] for line in standard.stderr.decode().splitlines()]
    assert names == ["recovery_in_memory begins", "recovery_in_memory ends"]
    other = run("env", "FVD_LOG=fvd::image=info", FVD, "convert", "-O", "raw", image, tmp_path / "b.raw")
    assert other.stderr.count(b"recovery_in_memory") == 2
    assert run(FVD, "info", image).stderr == b""
    missing = run(FVD, "--log-level", ok=(1,)).stderr.decode()
    assert missing.splitlines()[0] == "fvd: option '--log-level' requires an argument"
    unknown = run(FVD, "--log-file=x", "info", image, ok=(1,)).stderr.decode()
    assert unknown.splitlines()[0] == "fvd: unrecognized option '--log-file'"


def unclean(folder: Path) -> Path:
    """An image whose process was killed after a flush."""
    image = folder / "disk.fvd"
    fvd.create(image, 16 * MIB, options={"compact_image": True})
    script = (
        "import fvd, os, signal, sys\n"
        "image = fvd.open(sys.argv[1], 'r+')\n"
        "image.pwrite(b'x' * 65536, 0)\n"
        "image.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run(FVD.parent / "python", "-W", "ignore", "-c", script, image, ok=(-signal.SIGKILL,))
    return image


def test_a_forked_server_goes_on_to_log_if_a_log_was_asked_for(image: Path, socket: Path) -> None:
    pid_file, log = socket.parent / "pid", socket.parent / "log"
    words = ["--fork", "-t", "--pid-file", pid_file, "-k", socket, "--log-level=debug", image]
    command = [str(FVD), "serve", *map(str, words)]
    with log.open("wb") as stderr:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, env=TOOLS_ENV, check=True)
    pid = int(pid_file.read_text())
    try:
        io(done.stdout.decode().splitlines()[-1], "write 0 64k", "flush")
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for_death(pid)
    assert "flush ends" in log.read_text()
    assert log.read_text().splitlines()[-1].split(": ")[1].startswith("close ends")


def test_a_log_that_is_not_read_holds_up_no_request(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "--log-level=trace", image) as server:
        io(server.uri, *["write 0 4k"] * 3000)
        assert server.process.stderr is not None
        assert select.select([server.process.stderr], [], [], ENDS)[0]
        lines = log_of(server)
    assert any("more messages" in line for line in lines[-200:] + lines), "some were dropped"
