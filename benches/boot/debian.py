"""The machine: a Debian root file system, and QEMU that boots it.

The machine is emulated (TCG), so that it boots anywhere. That makes it slow, and its own work hides part of
the waits for the disk.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ..nbd.measure import cpu_seconds
from .emulator import emulator

MARKER = "boot-bench-marker"
PACKAGES = "linux-image-cloud-amd64,systemd-sysv,udev,dbus,openssh-server,python3-minimal,ca-certificates"
PROGRAMS = ("debootstrap", "mkfs.ext4")

UNIT = f"""[Unit]
Description=Tells the host that the machine is up
After=multi-user.target ssh.service

[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS0
ExecStart=python3 -c "import re"
ExecStart=/bin/sh -c 'echo; echo "{MARKER} $(cat /sys/block/vda/stat)"'

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Root:
    """A Debian on a raw disk without partitions, and the kernel that boots it."""

    disk: Path
    kernel: Path
    initrd: Path


@dataclass(frozen=True)
class Boot:
    """One boot, until systemd has started the last service."""

    seconds: float
    """From the start of QEMU to the marker."""
    waiting: float
    """Seconds in which the machine had a request of the disk in flight, as its kernel counts them."""
    reads: int
    read_mib: float
    writes: int
    processor: float
    """Seconds of processor time of QEMU."""


def make_root(folder: Path, size_mib: int) -> Root:
    """The root file system, made once and kept in `folder`. Needs root, and Debian's archive."""
    root = Root(folder / "debian.raw", folder / "vmlinuz", folder / "initrd.img")
    if root.disk.exists():
        return root
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        tree = Path(temporary) / "root"
        print("making a Debian disk, once", flush=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "stable", tree)
        service = tree / "etc/systemd/system/boot-bench.service"
        service.write_text(UNIT)
        run("chroot", tree, "systemctl", "enable", "boot-bench.service")
        (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        for kind, to in (("vmlinuz-*", root.kernel), ("initrd.img-*", root.initrd)):
            (found,) = (tree / "boot").glob(kind)
            shutil.copy(found, to)
        disk = root.disk.with_suffix(".part")
        with disk.open("wb") as file:
            file.truncate(size_mib << 20)
        run("mkfs.ext4", "-q", "-F", "-d", tree, disk)
        disk.rename(root.disk)
    return root


def boot(root: Root, drive: dict[str, object], limit: float = 1200.0) -> Boot:
    """Boots from `drive`, a block device as `-blockdev` takes it, and switches the machine off.

    The guest's writes are flushed when QEMU ends, so an overlay keeps what the boot has fetched.
    """
    program, environment = emulator()
    command = [
        *program,
        # One processor: with two, on a busy host, one waits for locks that the other holds.
        *("-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-m", "1024"),
        *("-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", os.fspath(root.kernel), "-initrd", os.fspath(root.initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.journald.forward_to_console=0"),
        *("-blockdev", json.dumps({"node-name": "disk", **drive})),
        *("-device", "virtio-blk-pci,drive=disk"),
    ]
    started = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    ) as machine:
        assert machine.stdout is not None
        os.set_blocking(machine.stdout.fileno(), False)
        try:
            output = b""
            while time.monotonic() - started < limit:
                if (piece := machine.stdout.read()) is not None:
                    output += piece
                found = re.search(rb"^" + MARKER.encode() + rb" ([\d ]+)\r?\n", output, re.MULTILINE)
                if found:
                    seconds = time.monotonic() - started
                    stat = [int(word) for word in found[1].split()]
                    return result(seconds, stat, cpu_seconds(machine.pid))
                if machine.poll() is not None:
                    break
                time.sleep(0.05)
            raise SystemExit("The machine did not come up:\n" + output.decode(errors="replace")[-2000:])
        finally:
            machine.terminate()
            machine.wait(60)


def result(seconds: float, stat: list[int], processor: float) -> Boot:
    """From the fields of /sys/block/*/stat (the kernel's Documentation/block/stat.rst)."""
    return Boot(
        seconds=seconds,
        waiting=stat[9] / 1000,
        reads=stat[0],
        read_mib=stat[2] * 512 / (1 << 20),
        writes=stat[4],
        processor=processor,
    )


def run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
