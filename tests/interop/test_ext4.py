"""A disk with a real file system: raw -> fvd -> overlay -> writes -> raw. Finally e2fsck must find it
clean.
"""

import shutil
from pathlib import Path

import pytest

import fvd
from support import MIB, fvd_command, run
from support.disks import ext4_disk, fill_folder, sha256_file

BLOCK = 4096
BASES = {
    "raw": [],
    "fvd": ["-O", "fvd"],
    "fvd_compact": ["-O", "fvd", "-o", "compact_image=on,chunk_size=64K"],
}
OVERLAYS = {
    "default": "",
    "odd_block": "block_size=7680,journal_size=8192",
    "compact": "compact_image=on,block_size=64K,chunk_size=256K,storage_grow_unit=1M",
    "straddling": "compact_image=on,block_size=7680,chunk_size=12K,storage_grow_unit=12K,journal_size=64K",
    "data_file": "data_file=data.raw,data_file_fmt=raw",
}


@pytest.fixture(scope="module")
def ext4_and_later(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file system of 48 MiB, and the same file system after files were added and removed."""
    folder = tmp_path_factory.mktemp("ext4")
    before = ext4_disk(folder / "before.raw", 48 * MIB, fill_folder(folder / "files", seed=1))
    later = folder / "later.raw"
    shutil.copyfile(before, later)
    (folder / "new").write_bytes(b"new content, written later\n" * 60_000)
    commands = folder / "commands"
    commands.write_text(
        f"write {folder / 'new'} /d1/new\n"
        f"write {folder / 'new'} /another\n"
        "rm /d2/file-2\nrm /d0/file-35\nmkdir /d9\nsymlink /d9/link /another\n"
    )
    run("debugfs", "-w", "-f", commands, later)
    run("e2fsck", "-fy", later, ok=(0, 1))
    run("e2fsck", "-fn", later)
    assert sha256_file(before) != sha256_file(later)
    return before, later


@pytest.mark.parametrize("options", OVERLAYS.values(), ids=OVERLAYS.keys())
@pytest.mark.parametrize("base_arguments", BASES.values(), ids=BASES.keys())
def test_file_system_survives_all_conversions(
    ext4_and_later: tuple[Path, Path], tmp_path: Path, base_arguments: list[str], options: str
) -> None:
    before, later = ext4_and_later
    if base_arguments:
        base, base_format = tmp_path / "base.fvd", "fvd"
        fvd_command("convert", "-f", "raw", *base_arguments, before, base)
    else:
        base, base_format = tmp_path / "base.raw", "raw"
        shutil.copyfile(before, base)
    base_sha = sha256_file(base)

    overlay = tmp_path / "overlay.fvd"
    with_options = ["-o", options] if options else []
    fvd_command(
        "create", "-f", "fvd", "-b", base.name, "-F", base_format, *with_options, overlay, cwd=tmp_path
    )

    # Like a guest: writes the blocks that differ, flushes now and then, and restarts the machine.
    with before.open("rb") as old, later.open("rb") as new:
        image = fvd.open(overlay, "r+")
        written = 0
        for offset in range(0, 48 * MIB, BLOCK):
            content = new.read(BLOCK)
            if content != old.read(BLOCK):
                image.pwrite(content, offset)
                written += 1
                if written % 50 == 0:
                    image.flush()
                if written % 200 == 0:
                    image.close()
                    image = fvd.open(overlay, "r+")
        image.close()
    assert written > 400

    fvd_command("check", overlay)
    flat = tmp_path / "flat.raw"
    fvd_command("convert", "-O", "raw", overlay, flat)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", later, flat)
    run("e2fsck", "-fn", flat)
    fvd_command("compare", overlay, flat)
    assert sha256_file(base) == base_sha
