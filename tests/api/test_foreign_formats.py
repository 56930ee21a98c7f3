"""Formats that fvd cannot read: files in them are refused, unless the user says that they are raw."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

import fvd
from support import MIB, fvd_command, run

MADE_BY_QEMU = {
    "vmdk": ["-f", "vmdk"],
    "vmdk of several files": ["-f", "vmdk", "-o", "subformat=monolithicFlat"],
    "vdi": ["-f", "vdi"],
    "vhdx": ["-f", "vhdx"],
    "vpc": ["-f", "vpc"],
    "vpc fixed": ["-f", "vpc", "-o", "subformat=fixed"],
    "qed": ["-f", "qed"],
    "qcow": ["-f", "qcow"],
    "parallels": ["-f", "parallels"],
    "luks": ["-f", "luks", "--object", "secret,id=key,data=abc", "-o", "key-secret=key,iter-time=10"],
}
BYTES = {
    "html": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "html of old": b"\n  <HTML><HEAD>",
    "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(100),
    "bzip2": bz2.compress(b"disk" * 1000),
    "gzip": gzip.compress(b"disk" * 1000),
    "xz": lzma.compress(b"disk" * 1000),
}
NAMES = [*MADE_BY_QEMU, *BYTES, "zip", "tar"]


def make(name: str, folder: Path) -> Path:
    path = folder / "it"
    member = folder / "member"
    member.write_bytes(b"disk" * 1000)
    if name in MADE_BY_QEMU:
        run("qemu-img", "create", "-q", *MADE_BY_QEMU[name], path, "4M")
    elif name == "zip":
        with zipfile.ZipFile(path, "w") as zip_file:
            zip_file.write(member)
    elif name == "tar":
        with tarfile.open(path, "w") as tar_file:
            tar_file.add(member, "member")
    else:
        path.write_bytes(BYTES[name])
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_format_is_refused_unless_called_raw(name: str, tmp_path: Path) -> None:
    path, target = make(name, tmp_path), tmp_path / "target"
    format = name.split()[0]
    said = f"It looks like {format}, which is not read here".encode()
    failed = fvd_command("convert", path, target, ok=[1])
    assert said in failed.stderr
    assert b"-f raw" in failed.stderr
    assert not target.exists()
    (tmp_path / "raw").write_bytes(bytes(MIB))
    assert said in fvd_command("compare", "-f", "raw", tmp_path / "raw", path, ok=[2]).stderr
    assert said in fvd_command("map", path, ok=[1]).stderr
    assert said in fvd_command("create", "-b", path, tmp_path / "top.fvd", ok=[1]).stderr
    assert said in fvd_command("serve", "-k", tmp_path / "socket", path, ok=[1]).stderr
    assert not (tmp_path / "top.fvd").exists()
    info = fvd.info(path)
    assert info["format"] == format
    assert "virtual-size" not in info
    assert f"file format: {format}".encode() in fvd_command("info", path).stdout
    fvd_command("convert", "-f", "raw", path, target)
    assert target.read_bytes()[: path.stat().st_size] == path.read_bytes()


def test_a_foreign_base_without_a_format_is_refused_on_open(tmp_path: Path) -> None:
    base, image = tmp_path / "base", tmp_path / "image.fvd"
    base.write_bytes(bytes(MIB))
    fvd.create(image, backing_file="base")
    base.write_bytes(BYTES["gzip"].ljust(MIB, b"\0"))
    with pytest.raises(fvd.UnsupportedError, match=r"looks like gzip.*backing_fmt=raw"):
        fvd.open(image)
    fvd.amend(image, backing_fmt="raw")
    with fvd.open(image) as disk:
        assert disk.pread(len(BYTES["gzip"]), 0) == BYTES["gzip"]


def test_an_empty_file_is_no_disk_unless_called_raw(tmp_path: Path) -> None:
    path, target = tmp_path / "empty", tmp_path / "target"
    path.touch()
    failed = fvd_command("convert", path, target, ok=[1])
    assert b"It is empty" in failed.stderr
    assert not target.exists()
    fvd_command("convert", "-f", "raw", path, target)
    assert fvd.info(path)["virtual-size"] == 0
