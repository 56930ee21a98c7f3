"""A mounted file system over an NBD server: server, FUSE file (nbdfuse), loop device, ext4.

Every layer is a context manager that is taken down again, also after an error or Ctrl-C.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .measure import serving
from .servers import Server

PROGRAMS = ("postmark", "nbdfuse", "qemu-nbd", "qemu-img", "fusermount3", "mkfs.ext4", "losetup")
DIRTY_BYTES = 16 << 20
"""What the file system may keep in memory before writers have to wait.

A machine with much memory would otherwise hold all files of PostMark, which deletes them again before they
are written, and the disk would have nothing to do.
"""
PATIENCE = 20.0


@contextmanager
def mounted(server: Server, disk: str) -> Iterator[tuple[int, Path]]:
    """Yields the process of the server, and the folder in which the file system of `disk` is mounted."""
    with ExitStack() as layers:
        folder = Path(layers.enter_context(tempfile.TemporaryDirectory(prefix="postmark-")))
        process, socket = layers.enter_context(serving(server, disk))
        file = layers.enter_context(fuse_file(folder / "fuse", socket))
        device = layers.enter_context(loop_device(file))
        yield process.pid, layers.enter_context(file_system(device, folder / "mounted"))


@contextmanager
def fuse_file(folder: Path, socket: str) -> Iterator[Path]:
    folder.mkdir()
    with subprocess.Popen(["nbdfuse", folder, "--unix", socket], start_new_session=True) as process:
        try:
            file = folder / "nbd"
            deadline = time.monotonic() + PATIENCE
            while not file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("nbdfuse does not show the disk")
                time.sleep(0.01)
            yield file
        finally:
            run("fusermount3", "-u", folder, check=False)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def loop_device(file: Path) -> Iterator[str]:
    # Past the page cache: the disk is cached once by the file system on it, as in a guest.
    device = run("losetup", "--find", "--show", "--direct-io=on", file).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def file_system(device: str, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "ext4", "-o", "noatime", device, folder)
    try:
        number = os.stat(folder).st_dev
        with limit_of_dirty_pages(f"{os.major(number)}:{os.minor(number)}"):
            yield folder
    finally:
        run("umount", folder)


@contextmanager
def limit_of_dirty_pages(device: str) -> Iterator[None]:
    settings = Path("/sys/class/bdi") / device
    before = {name: (settings / name).read_text() for name in ("max_bytes", "strict_limit")}
    try:
        (settings / "strict_limit").write_text("1")
        (settings / "max_bytes").write_text(str(DIRTY_BYTES))
        yield
    finally:
        (settings / "strict_limit").write_text(before["strict_limit"])
        # The kernel stores a share of all memory, so it would refuse a value above the present one.
        (settings / "max_ratio").write_text("100")


def run(*command: str | Path, check: bool = True, stdin: str = "") -> str:
    """The output of a command. A terminal's Ctrl-C does not reach it, so nothing is taken down half."""
    with subprocess.Popen(
        [os.fspath(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, error = process.communicate(stdin)
        except BaseException:
            # As long as it runs, the file system is busy.
            process.kill()
            process.wait()
            raise
    if check and process.returncode:
        raise SystemExit(f"{command[0]} failed: {error}{out[-2000:]}")
    return out
