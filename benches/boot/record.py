"""Records a boot of the disk: its trace, and fvd's profile."""

import os
import tempfile
from pathlib import Path

import fvd
from fvd.types import ImageOptions

from ..nbd.measure import serving
from ..nbd.servers import Server, fvd_serve, nbdkit
from . import trace
from .debian import Root, boot
from .drives import nbd, qcow2_overlay, raw


def record_trace(root: Root, folder: Path, to: Path) -> None:
    """What a machine reads of a base that is local, through a qcow2 overlay."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        log = Path(temporary) / "log"
        words = ("-r", "-t", "64", "--filter=log", "file", "{disk}", f"logfile={log}")
        server = Server("recorder", "raw", nbdkit(*words), "")
        with serving(server, os.fspath(root.disk)) as (_process, path):
            size = root.disk.stat().st_size
            result = boot(root, qcow2_overlay(Path(temporary) / "overlay.qcow2", size, raw(nbd(path))))
        reads = trace.relative(trace.from_nbdkit(log.read_text().splitlines()))
    total = sum(read.length for read in reads)
    about = [
        "Reads of a booting Debian (cloud kernel, systemd, ssh) until it has started its last service.",
        "QEMU without KVM (TCG, 1 processor), a local base. Made by: python -m benches.boot --record",
        f"{len(reads)} reads, {total} bytes, {result.seconds:.1f} s, of these {result.waiting:.2f} s waiting",
        "sector sectors reads-back thinking-us",
    ]
    trace.write(to, reads, about)
    print(f"{to}: {about[2]}")


def record_profile(root: Root, folder: Path, to: Path) -> None:
    """The profile that fvd records in such a boot."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        overlay = Path(temporary) / "overlay.fvd"
        trust = root.disk.parent
        options: ImageOptions = {"copy_on_read": True, "generate_prefetch_profile": True}
        fvd.create(overlay, backing_file=root.disk, backing_format="raw", options=options, trust=[trust])
        server = Server("recorder", "fvd", fvd_serve("--trust", os.fspath(trust)), "")
        with serving(server, os.fspath(overlay)) as (_process, path):
            boot(root, nbd(path))
        fvd.export_profile(overlay, to)
    print(f"{to}: made")
