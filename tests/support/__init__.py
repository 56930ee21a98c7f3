"""What the tests share: running programs, test data, the corpus, an independent reader of headers."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).resolve().parents[2]
# The modes that keep the guarantees of a disk, with and without the page cache.
CacheMode = Literal["writeback", "writethrough", "none"]
CACHE_MODES: tuple[CacheMode, ...] = ("writeback", "writethrough", "none")
KIB = 1024
MIB = 1024 * KIB

# The command of the environment that runs the tests, not another one in PATH.
FVD = Path(sys.executable).parent / "fvd"
TOOLS_ENV = os.environ | {
    "PATH": os.pathsep.join(
        [
            str(FVD.parent),
            os.environ["PATH"],
            "/usr/local/sbin",
            "/usr/sbin",
            "/sbin",
        ]  # mkfs.ext4 and friends
    ),
    "LC_ALL": "C.UTF-8",
}


def run(
    *command: str | os.PathLike[str],
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program, with `env` besides the environment of the tests.

    If its status is not in `ok`, raises AssertionError with its output.
    """
    done = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env=TOOLS_ENV | dict(env or {}),
        timeout=240,
        check=False,
    )
    assert done.returncode in ok, (
        f"{' '.join(os.fspath(word) for word in command)}: status {done.returncode}\n"
        f"{done.stdout.decode(errors='replace')[-4000:]}\n{done.stderr.decode(errors='replace')[-4000:]}"
    )
    return done


def unmount(place: Path) -> None:
    """Unmounts a file system. Retries, because the kernel may release a closed file a little later."""
    for patience in (0.05, 0.2, 1, 5):
        if not subprocess.run(["umount", place], capture_output=True, check=False).returncode:
            return
        time.sleep(patience)
    run("umount", place)


def fvd_command(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Runs the `fvd` command."""
    return run(FVD, *arguments, cwd=cwd, ok=ok, stdin=stdin)
