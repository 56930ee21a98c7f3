"""Block devices as QEMU's `-blockdev` takes them, and overlays."""

import os
import subprocess
from pathlib import Path

Drive = dict[str, object]
"""A block device as `-blockdev` takes it, without its name."""


def nbd(path: str) -> Drive:
    return {"driver": "nbd", "server": {"type": "unix", "path": path}}


def raw(file: Drive) -> Drive:
    return {"driver": "raw", "file": file}


def qcow2_file(overlay: Path, **more: object) -> Drive:
    return {"driver": "qcow2", "file": {"driver": "file", "filename": os.fspath(overlay)}, **more}


def qcow2_overlay(overlay: Path, size: int, backing: Drive) -> Drive:
    """A qcow2 overlay on `backing`, of `size` bytes. It is made unless it is there.

    Its subclusters have 4 KiB, so that a guest's write of a block needs nothing of the base.
    """
    if not overlay.exists():
        options = ("-o", "extended_l2=on,cluster_size=128k")
        qemu_img("create", "-q", "-u", "-f", "qcow2", *options, overlay, size)
    return qcow2_file(overlay, backing=backing)


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True)
