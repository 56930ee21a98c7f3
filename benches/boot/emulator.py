"""QEMU: the installed one, or the one that scripts/fetch-machine.sh has unpacked."""

import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

UNPACKED = Path(
    os.environ.get("FVD_MACHINE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fvd", "machine")
)


@cache
def emulator() -> tuple[Sequence[str], dict[str, str]]:
    """The beginning of QEMU's command line, and its environment.

    With QEMU 7.2, kernels of 2025 crash now and then without KVM; with QEMU 10 they do not.
    """
    environment = dict(os.environ)
    if installed := shutil.which("qemu-system-x86_64"):
        return [installed], environment
    program = UNPACKED / "usr/bin/qemu-system-x86_64"
    if not program.exists():
        raise SystemExit("qemu-system-x86_64 is missing: scripts/fetch-machine.sh unpacks one")
    (libraries,) = (path.parent for path in UNPACKED.glob("usr/lib/*-linux-*/qemu"))
    environment["LD_LIBRARY_PATH"] = os.fspath(libraries)
    environment["QEMU_MODULE_DIR"] = os.fspath(libraries / "qemu")
    share = UNPACKED / "usr/share"
    return [
        os.fspath(program),
        "-L",
        os.fspath(share / "qemu"),
        "-L",
        os.fspath(share / "seabios"),
    ], environment
