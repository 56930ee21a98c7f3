"""A virtual machine whose disk is an overlay served by `fvd serve`: it boots, writes and leaves a clean
disk.
"""

import hashlib
import random
from pathlib import Path

import pytest

import fvd
from fvd.types import ImageOptions
from support import KIB, MIB, fvd_command, run
from support.disks import ext4_disk, fill_folder, sha256_file
from support.machine import boot
from support.serving import Server

SIZE = 64 * MIB
NUMBERS = 200_000
# The output of `seq`, which the machine can produce itself.
WRITTEN = "".join(f"{number}\n" for number in range(1, NUMBERS + 1)).encode()

FIRST = f"""
mount -t ext4 -o discard /dev/vda /mnt
cd /mnt
sha256sum -c SUMS
seq 1 {NUMBERS} >written
rm large
sync
dd if=/dev/zero of=zeros bs=64k count=32 conv=fsync 2>/dev/null
cd /
fstrim /mnt
umount /mnt
"""
AGAIN = f"""
mount -t ext4 /dev/vda /mnt
cd /mnt
grep -v ' large$' SUMS | sha256sum -c -
echo '{hashlib.sha256(WRITTEN).hexdigest()}  written' | sha256sum -c -
echo again >again
cd /
umount /mnt
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A raw disk with a file system that contains files and their checksums."""
    files = fill_folder(tmp_path / "files", seed=9)
    (files / "large").write_bytes(random.Random(9).randbytes(6 * MIB))
    sums = [
        f"{sha256_file(path)}  {path.relative_to(files)}\n" for path in files.rglob("*") if path.is_file()
    ]
    (files / "SUMS").write_text("".join(sums))
    return ext4_disk(tmp_path / "base.raw", SIZE, files)


def flat(image: Path) -> Path:
    """The disk as a raw file. Checks the image and the file system."""
    path = image.with_name("flat.raw")
    fvd_command("check", image)
    fvd_command("convert", "-O", "raw", image, path)
    run("e2fsck", "-fn", path)
    return path


def file_in(disk: Path, name: str) -> bytes:
    return run("debugfs", "-R", f"cat {name}", disk).stdout


def test_a_machine_boots_and_writes(base: Path, tmp_path: Path) -> None:
    before = sha256_file(base)
    image = tmp_path / "disk.fvd"
    fvd.create(image, backing_file=base.name, backing_format="raw", options={"block_size": 4 * KIB})
    with Server(image, shared=1) as server:
        console = boot(server.socket, FIRST, tmp_path)
    assert "large: OK" in console
    assert file_in(flat(image), "/written") == WRITTEN
    assert sha256_file(base) == before


def test_a_machine_boots_without_its_base_after_prefetch(base: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.fvd"
    options: ImageOptions = {
        "block_size": 64 * KIB,
        "compact_image": True,
        "copy_on_read": True,
        "prefetch_start_delay": 1,
    }
    fvd.create(image, backing_file=base.name, backing_format="raw", options=options)
    with Server(image) as server:
        boot(server.socket, FIRST, tmp_path)
    fvd_command("prefetch", "-q", image)
    base.unlink()
    with Server(image) as server:
        console = boot(server.socket, AGAIN, tmp_path)
    assert "written: OK" in console
    disk = flat(image)
    assert file_in(disk, "/written") == WRITTEN
    assert file_in(disk, "/again") == b"again\n"
