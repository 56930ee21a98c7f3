"""A virtual machine with Debian's kernel, busybox, a disk and a serial console, fully emulated (no KVM)."""

import lzma
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import TOOLS_ENV

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = Path(os.environ.get("FVD_MACHINE") or CACHE / "fvd" / "machine")
LASTS = 120.0
SUCCEEDED = "the job is done"

# Each after the modules that it needs. A module built into the kernel has no file.
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
    "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4",
)  # fmt: skip

INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for module in /modules/*; do insmod "$module"; done
sh -e /job && echo "{succeeded}"
poweroff -f
"""


def boot(disk: Path, job: str, folder: Path, *, export: str = "") -> str:
    """Runs a shell script in a machine whose /dev/vda is an export; returns the output of its console."""
    initramfs = folder / "initramfs.cpio"
    initramfs.write_bytes(b"".join(cpio(job)))
    program, environment = qemu()
    command = [
        *program,
        *("-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", one("boot/vmlinuz-*"), "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1"),
        "-blockdev",
        f"driver=nbd,node-name=disk,server.type=unix,server.path={disk},export={export},discard=unmap",
        *("-device", "virtio-blk-pci,drive=disk"),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LASTS,
        env=environment,
        check=False,
    )
    console = done.stdout.decode(errors="replace").replace("\r", "")
    assert done.returncode == 0, console
    assert SUCCEEDED in console.splitlines(), console
    return console


def qemu() -> tuple[list[str | Path], dict[str, str]]:
    """The emulator: the installed one, or one that was unpacked with its libraries."""
    if installed := shutil.which("qemu-system-x86_64"):
        return [installed], TOOLS_ENV
    libraries = one("usr/lib/*/qemu").parent
    environment = TOOLS_ENV | {
        "LD_LIBRARY_PATH": os.fspath(libraries),
        "QEMU_MODULE_DIR": os.fspath(libraries / "qemu"),
    }
    share = FOLDER / "usr/share"
    return [one("usr/bin/qemu-system-x86_64"), "-L", share / "qemu", "-L", share / "seabios"], environment


def one(*patterns: str) -> Path:
    """The newest file of the machine that matches one of the patterns."""
    found = sorted(path for pattern in patterns for path in FOLDER.glob(pattern))
    if not found:
        pytest.fail(f"{FOLDER}/{patterns[0]} is missing: scripts/install-tools.sh fetches it")
    return found[-1]


def cpio(job: str) -> Iterator[bytes]:
    """The root file system of the machine, as an archive that the kernel unpacks."""
    for folder in ("bin", "dev", "mnt", "modules", "proc"):
        yield entry(folder, stat.S_IFDIR | 0o755)
    yield entry("bin/busybox", stat.S_IFREG | 0o755, one("bin/busybox", "usr/bin/busybox").read_bytes())
    yield entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    yield entry("init", stat.S_IFREG | 0o755, INIT.format(succeeded=SUCCEEDED).encode())
    yield entry("job", stat.S_IFREG | 0o644, job.encode())
    for number, module in enumerate(MODULES):
        for path in FOLDER.rglob(f"{module}.ko*"):
            data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            yield entry(f"modules/{number:02}-{module}.ko", stat.S_IFREG | 0o644, data)
    yield entry("TRAILER!!!", 0)


def entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """A file in the cpio format "newc": 13 numbers in hexadecimal, name and data, padded to 4 bytes."""
    encoded = name.encode() + b"\0"
    inode, owner, group, links, mtime, devices, check = 0, 0, 0, 1, 0, (0, 0, 0, 0), 0
    numbers = (inode, mode, owner, group, links, mtime, len(data), *devices, len(encoded), check)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
    header += b"\0" * (-len(header) % 4)
    return header + data + b"\0" * (-len(data) % 4)
