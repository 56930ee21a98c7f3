"""The servers that are compared, how each is started, and the format of its disk."""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

Command = list[str]

BEFORE = "-before"
"""The end of the name of a server of another version."""


@dataclass(frozen=True)
class Server:
    """A server with its options."""

    name: str
    format: str
    """Format of the disk that it serves; see `disks.py`."""
    command: Callable[[str, str], Command]
    """The command for a disk and a socket. It stays in the foreground."""
    about: str


def fvd_serve(*options: str) -> Callable[[str, str], Command]:
    script = Path(sys.executable).parent / "fvd"
    words = [os.fspath(script)] if script.exists() else [sys.executable, "-m", "fvd"]
    return lambda disk, socket: [*words, "serve", "-t", "-e", "0", "-k", socket, *options, disk]


def qemu_nbd(*options: str) -> Callable[[str, str], Command]:
    return lambda disk, socket: ["qemu-nbd", "-t", "-e", "0", "-k", socket, "--discard=unmap", *options, disk]


def nbdkit(*plugin: str) -> Callable[[str, str], Command]:
    """The command with these words for the plugin; `{disk}` stands for the disk."""
    return lambda disk, socket: [
        "nbdkit",
        "-f",
        "-U",
        socket,
        *(word.replace("{disk}", disk) for word in plugin),
    ]


DIRECT = "--cache=none"
URING = ("--cache=none", "--aio=io_uring")
SERVERS = [
    Server("fvd", "fvd", fvd_serve(), "a plain image, default options"),
    Server("fvd-compact", "compact", fvd_serve(), "a compact image"),
    Server("fvd-raw", "raw", fvd_serve("-f", "raw"), "a raw file"),
    Server("fvd-direct", "fvd", fvd_serve(DIRECT), "a plain image past the page cache"),
    Server("fvd-direct-threads", "fvd", fvd_serve(DIRECT, "--aio=threads"), "the same without io_uring"),
    Server("fvd-raw-direct", "raw", fvd_serve("-f", "raw", DIRECT), "a raw file past the page cache"),
    Server("fvd-compact-direct", "compact", fvd_serve(DIRECT), "a compact image past the page cache"),
    Server("fvd-64k", "fvd-64k", fvd_serve(), "an overlay with blocks of 64 KiB"),
    Server("fvd-4k", "fvd-4k", fvd_serve(), "an overlay with blocks of 4 KiB"),
    Server("qemu-raw", "raw", qemu_nbd("-f", "raw"), "qemu-nbd, a raw file, default options"),
    Server("qemu-raw-uring", "raw", qemu_nbd("-f", "raw", *URING), "past the page cache, io_uring"),
    Server("qemu-qcow2", "qcow2", qemu_nbd("-f", "qcow2"), "qemu-nbd, qcow2, default options"),
    Server("qemu-qcow2-uring", "qcow2", qemu_nbd("-f", "qcow2", *URING), "past the page cache, io_uring"),
    Server("qemu-qcow2-sub", "qcow2-sub", qemu_nbd("-f", "qcow2"), "an overlay with subclusters of 4 KiB"),
    Server("nbdkit-file", "raw", nbdkit("file", "{disk}"), "nbdkit, its file plugin, a raw file"),
    Server("nbdkit-null", "none", nbdkit("null", "size={disk}"), "no disk at all: what the transport costs"),
]


def before(server: Server, script: str) -> Server:
    """The same server of another version of fvd, whose command is `script`."""

    def command(disk: str, socket: str) -> Command:
        words = server.command(disk, socket)
        return [script, *words[words.index("serve") :]]

    return replace(server, name=f"{server.name}{BEFORE}", command=command)


@functools.cache
def available(server: Server) -> str:
    """Why a server cannot be used; empty if it can."""
    program = server.command("disk", "socket")[0]
    if shutil.which(program) is None:
        return f"{program} is missing: scripts/install-tools.sh installs it"
    return ""
