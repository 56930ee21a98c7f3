"""`fvd measure`: the same numbers as qemu-img for what both measure, and no copy that is larger."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import fvd
from fvd.types import ImageOptions, MeasureResult
from support import KIB, MIB, fvd_command, run

QCOW2_OPTIONS = (
    "cluster_size=64K",
    "cluster_size=4k",
    "cluster_size=2M",
    "refcount_bits=1",
    "refcount_bits=64",
    "extended_l2=on",
    "preallocation=metadata",
    "preallocation=full",
    "compat=0.10",
    "lazy_refcounts=on,compression_type=zstd",
    "backing_file=x,backing_fmt=raw",
)


def parsed(program: str, *arguments: str | Path) -> MeasureResult:
    measured = fvd_command if program == "fvd" else lambda *words: run(program, *words)
    result = json.loads(measured("measure", "--output=json", *arguments).stdout)
    # qemu-img has it for qcow2 images that it reads. There are no bitmaps in them here.
    assert result.pop("bitmaps", 0) == 0
    measurement: MeasureResult = result
    return measurement


def sparse_disk(path: Path) -> Path:
    """A raw disk of 100 MiB and a bit, with pieces of data of several sizes, some of them zeros."""
    with path.open("wb") as disk:
        disk.truncate(100 * MIB + 12345)
        for offset, data in (
            (0, b"x" * 512),
            (3 * MIB - 4096, os.urandom(8192)),
            (10 * MIB + 777, os.urandom(3 * MIB)),
            (40 * MIB, bytes(MIB)),
            (100 * MIB + 12000, b"end"),
        ):
            disk.seek(offset)
            disk.write(data)
    return path


@pytest.mark.parametrize("options", QCOW2_OPTIONS)
@pytest.mark.parametrize("size", ["0", "512", "100000000", "1G", "63T"])
def test_qcow2_and_raw_sizes_are_those_of_qemu_img(size: str, options: str) -> None:
    words = ("--size", size, "-O", "qcow2", "-o", options)
    theirs = run("qemu-img", "measure", "--output=json", *words, ok=(0, 1))
    if theirs.returncode:
        said = fvd_command("measure", *words, ok=(1,)).stderr.decode()
        assert said.replace("fvd:", "qemu-img:") == theirs.stderr.decode()
        return
    assert parsed("fvd", *words) == json.loads(theirs.stdout)
    assert parsed("fvd", "--size", size) == parsed("qemu-img", "--size", size)


@pytest.mark.parametrize("options", ["cluster_size=64K", "cluster_size=4k", "preallocation=falloc"])
def test_a_copy_is_measured_as_by_qemu_img(tmp_path: Path, options: str) -> None:
    disk = sparse_disk(tmp_path / "disk.raw")
    words = ("-f", "raw", "-O", "qcow2", "-o", options, disk)
    assert parsed("fvd", *words) == parsed("qemu-img", *words)
    qcow2 = tmp_path / "disk.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, qcow2)
    words = ("-f", "qcow2", "-O", "qcow2", "-o", options, qcow2)
    assert parsed("fvd", *words) == parsed("qemu-img", *words)
    assert parsed("fvd", "-f", "raw", disk) == parsed("qemu-img", "-f", "raw", disk)


@pytest.mark.parametrize(
    "words", [(), ("--size", "1G", "x"), ("--size", "1x"), ("-O", "foo", "--size", "1"), ("x", "y")]
)
def test_a_wrong_command_line_is_refused_in_qemu_imgs_words(words: tuple[str, ...]) -> None:
    theirs = run("qemu-img", "measure", *words, ok=(1,)).stderr
    assert fvd_command("measure", *words, ok=(1,)).stderr.replace(b"fvd", b"qemu-img") == theirs


def test_the_readable_output_is_that_of_qemu_img() -> None:
    words = ("measure", "--size", "1G", "-O", "qcow2")
    assert fvd_command(*words).stdout == run("qemu-img", *words).stdout


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compact_image": True},
        {"compact_image": True, "chunk_size": 4 * KIB, "storage_grow_unit": 64 * KIB},
        {"compact_image": True, "chunk_size": 3 * 4096, "journal_size": -1},
        {"data_file": "data.raw", "data_file_fmt": "raw"},
        {"compact_image": True, "data_file": "data.raw"},
    ],
    ids=str,
)
@pytest.mark.parametrize("base", [None, "base.raw"])
def test_no_copy_takes_more_than_is_required(tmp_path: Path, options: ImageOptions, base: str | None) -> None:
    disk, copy = sparse_disk(tmp_path / "disk.raw"), tmp_path / "copy.fvd"
    (tmp_path / "base.raw").write_bytes(os.urandom(MIB))
    backing = None if base is None else tmp_path / base
    measured = fvd.measure(
        disk, source_format="raw", format="fvd", options=options, backing_file=backing, backing_format="raw"
    )
    fvd.convert(
        disk,
        copy,
        source_format="raw",
        format="fvd",
        options=options,
        backing_file=base,
        backing_format="raw",
    )
    taken = sum(
        file.stat().st_blocks * 512 for file in tmp_path.iterdir() if file.name in ("copy.fvd", "data.raw")
    )
    assert taken <= measured["required"] <= measured["fully-allocated"]
    whole = 100 * MIB + 12345
    assert measured["fully-allocated"] > whole
    if "compact_image" in options and base is None:
        # 5 MiB of data, some of it at places that make chunks of 1 MiB be used for little.
        assert measured["required"] < 28 * MIB
    elif "compact_image" not in options:
        assert measured["required"] == measured["fully-allocated"]


def test_a_device_of_the_fully_allocated_size_takes_every_write(tmp_path: Path) -> None:
    options: ImageOptions = {"compact_image": True, "chunk_size": 64 * KIB, "storage_grow_unit": 64 * KIB}
    limit = fvd.measure(size="10M", format="fvd", options=options)["fully-allocated"]
    path = tmp_path / "disk.fvd"
    fvd.create(path, "10M", options=options)
    with fvd.open(path, "r+") as image:
        image.pwrite(os.urandom(10 * MIB), 0)
    assert path.stat().st_size == limit


def test_an_open_image_and_a_source_can_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "disk.fvd"
    fvd.create(path, "64M")
    with fvd.open(path, "r+") as image:
        image.pwrite(b"x" * 100, 64 * KIB - 50)
        required = fvd.measure(image, format="qcow2")["required"]
    assert required == fvd.measure(size="64M", format="qcow2")["required"] + 2 * 64 * KIB
    with sparse_disk(tmp_path / "disk.raw").open("rb") as file:
        assert fvd.measure(file, source_format="raw")["required"] == 100 * MIB + 12800


def test_arguments_that_contradict_are_refused(tmp_path: Path) -> None:
    for wrong in ({}, {"source": tmp_path / "x", "size": 1}):
        with pytest.raises(ValueError, match="Either a source or a size must be given, and not both"):
            fvd.measure(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unknown file format 'vmdk': fvd, raw and qcow2 can be measured"):
        fvd.measure(size=1, format="vmdk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid parameter 'chunk_size'"):
        fvd.measure(size=1, format="qcow2", options={"chunk_size": 4096})
