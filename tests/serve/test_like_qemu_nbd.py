"""`fvd serve` accepts the options of qemu-nbd, or names an alternative."""

from __future__ import annotations

import re
import socket as sockets
import time
from pathlib import Path

import pytest

from fvd.cli import _not_here
from fvd.cli._common import CommandError
from fvd.cli.serve import options
from support import KIB, MIB, run

from .processes import io, refused, serving

GENERAL = {"--help", "--version"}
NOT_HERE = {flag for flag in _not_here.refused_options("serve") if flag.startswith("--")}


def options_of_qemu_nbd() -> list[tuple[str | None, str, bool]]:
    """The options of the installed version: short name, long name, whether a value follows."""
    text = run("qemu-nbd", "--help").stdout.decode()
    lines = re.findall(r"^ +(?:(-\w), +)?(--[a-z-]+)(=| type,| \[)?", text, re.MULTILINE)
    found = [(short or None, long, bool(value)) for short, long, value in lines]
    assert len(found) > 30
    return found


@pytest.mark.parametrize(("short", "long", "has_value"), options_of_qemu_nbd())
def test_each_option_of_qemu_nbd_is_known(short: str | None, long: str, has_value: bool) -> None:
    for flag in (long, short):
        if flag is None:
            continue
        words = [flag, "1"] if has_value else [flag]
        if long in NOT_HERE:
            with pytest.raises(CommandError, match=rf"^{flag} is not here: .{{10}}"):
                options.parser().parse([*words, "disk.fvd"], 1, 1, "?")
            continue
        option = options.parser().find(flag)
        assert option is not None, f"{flag} is not known"
        assert (option.takes == "a value") == has_value, flag
        if long not in GENERAL:
            given = options.parser().parse([*words, "disk.fvd"], 1, 1, "?")
            assert given.files == ["disk.fvd"]


def settings(*words: str) -> options.Settings:
    return options.settings(options.parser().parse(list(words), 1, 9, "?"))


def test_options_mean_what_they_mean_to_qemu_nbd() -> None:
    assert settings("-n", "x")["cache"] == "none"
    assert settings("--aio=native", "x")["aio"] is None
    assert settings("--handshake-limit=0", "x")["handshake_limit"] == 0
    assert settings("-o", "1M", "x")["offset"] == MIB
    assert settings("x")["cache"] == "writeback"


@pytest.mark.parametrize(
    ("text", "format", "path", "offset", "size"),
    [
        ("driver=raw,file.filename=a", "raw", "a", 0, None),
        ("driver=raw,file.driver=file,file.filename=a,,b", "raw", "a,b", 0, None),
        ("driver=raw,offset=1M,size=64k,file.filename=/dev/x,file.driver=host_device",
         "raw", "/dev/x", MIB, 64 * KIB),
        ("driver=qcow2,file.filename=a=b", "qcow2", "a=b", 0, None),
        ("driver=fvd,file.filename=./x:y", "fvd", "./x:y", 0, None),
        ("driver=file,filename=x", "raw", "x", 0, None),
    ],
)  # fmt: skip
def test_image_opts_are_parsed(text: str, format: str, path: str, offset: int, size: int | None) -> None:
    found = settings("--image-opts", "-x", "name", text)
    assert found["disks"] == [("name", path)]
    assert (found["format"], found["offset"], found["size"]) == (format, offset, size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("driver=nbd,host=x", "driver 'nbd' is not served: fvd, raw or qcow2 are"),
        ("driver=raw,file.driver=https,file.url=x", "file.driver 'https' is not served"),
        ("driver=raw,file.filename=x,read-only=on", "'read-only' is not known here: use -r"),
        ("driver=raw,file.filename=x,file.aio=native", "'file.aio' is not known here: use --aio"),
        ("driver=qcow2,file.filename=x,offset=1", "'offset' is not known here"),
        ("driver=raw,file.filename=x,offset=z", "'offset' is no size: z"),
        ("driver=raw", "no file is named"),
        ("file.filename=x", "there is no 'driver'"),
        ("disk.raw", "'disk.raw' has no value"),
    ],
)
def test_unsupported_image_opts_are_named(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        settings("--image-opts", text)


def test_a_part_of_a_disk_is_served_as_a_whole_disk(tmp_path: Path, socket: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\1" * MIB + b"\2" * MIB + b"\3" * MIB)
    with serving("-k", socket, "-t", "-f", "raw", "-o", "1M", disk) as server:
        assert run("nbdinfo", "--size", server.uri).stdout.strip() == str(2 * MIB).encode()
        io(server.uri, "read -P 2 0 1M", "read -P 3 1M 1M", "write -P 9 1023k 2k", "write -z 4k 4k")
        run("qemu-io", "-f", "raw", "-c", "write 2M 512", server.uri, ok=(1,))
        server.end()
    with serving(
        "-k", socket, "-t", "-r", "--image-opts", f"driver=raw,offset=2096128,size=2k,file.filename={disk}"
    ) as server:
        assert run("nbdinfo", "--size", server.uri).stdout.strip() == b"2048"
        run("qemu-io", "-r", "-f", "raw", "-c", "read -P 9 0 2k", server.uri)
    expected = bytearray(b"\1" * MIB + b"\2" * MIB + b"\3" * MIB)
    expected[MIB + 4096 : MIB + 8192] = bytes(4096)
    expected[2 * MIB - 1024 : 2 * MIB + 1024] = b"\x09" * 2048
    assert disk.read_bytes() == expected


def test_a_part_beyond_the_end_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(4096))
    assert "has to be less than the size, 4096" in refused("-f", "raw", "-o", "4096", disk)
    described = f"driver=raw,size=8k,file.filename={disk}"
    assert "8192 bytes from 0 are no part" in refused("--image-opts", described)


def test_the_handshake_limit_disconnects_a_silent_client(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "--handshake-limit", "1", image) as server:
        started = time.monotonic()
        with sockets.socket(sockets.AF_UNIX) as client:
            client.connect(str(socket))
            client.settimeout(30)
            assert len(client.recv(18, sockets.MSG_WAITALL)) == 18
            assert client.recv(1) == b""
        assert 0.9 < time.monotonic() - started < 9
        server.process.terminate()
        _, said = server.process.communicate(timeout=30)
        assert said == b"fvd: the client took too long to end the handshake\n"


def test_options_without_an_effect_print_a_note(image: Path, socket: Path) -> None:
    with serving("-k", socket, "-t", "-v", "--trace", "nbd_*", "-n", "--aio=native", image) as server:
        io(server.uri, "read 0 512")
        server.process.terminate()
        _, said = server.process.communicate(timeout=30)
        assert said == b"fvd: note: --trace: there are no trace points; --log-level tells what is done\n"
