"""Error messages: they name the operation that failed, and stay short."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

import fvd
from fvd.types import Format
from support import KIB, MIB, fvd_command


def test_strict_sizes_are_compared_in_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 1000)
    b.write_bytes(b"x" * 1000 + bytes(24))
    raw = ["-f", "raw", "-F", "raw"]
    strict = fvd_command("compare", "-s", *raw, a, b, ok=[1])
    assert strict.stdout == b"Strict mode: Image size mismatch!\n"
    assert fvd.compare(a, b, a_format="raw", b_format="raw", strict=True)["reason"] == "size"
    assert fvd.compare(a, b, a_format="raw", b_format="raw")["identical"]


def test_an_error_at_the_end_of_a_long_chain_is_short(tmp_path: Path) -> None:
    deep = 60
    (tmp_path / "base.raw").write_bytes(bytes(64 * KIB))
    names = ["base.raw", *(f"{number}.fvd" for number in range(deep))]
    for below, name in pairwise(names):
        format: Format = "raw" if below == "base.raw" else "fvd"
        fvd.create(
            tmp_path / name,
            64 * KIB,
            backing_file=below,
            backing_format=format,
            backing_unsafe=True,
            options={"journal_size": -1},
        )
    os.remove(tmp_path / "base.raw")
    top = tmp_path / names[-1]
    with pytest.raises(fvd.IoError) as caught:
        fvd.open(top)
    said = str(caught.value)
    assert f"its backing file '{names[-2]}'" in said
    assert "its backing file 'base.raw'" in said
    assert f"({deep - 4} more files between)" in said
    assert "No such file or directory; `fvd amend -o backing_file=NAME" in said
    assert len(said) < 1200
    assert said.count("cannot be opened") == 4
    chain = fvd_command("info", "--backing-chain", top, ok=[1])
    assert f"({deep - 4} more files between)" in chain.stderr.decode()


def test_a_short_chain_is_told_in_full(tmp_path: Path) -> None:
    names = ["base.raw", "0.fvd", "1.fvd", "2.fvd"]
    (tmp_path / "base.raw").write_bytes(bytes(64 * KIB))
    for below, name in pairwise(names):
        format: Format = "raw" if below == "base.raw" else "fvd"
        fvd.create(tmp_path / name, backing_file=below, backing_format=format)
    os.remove(tmp_path / "base.raw")
    with pytest.raises(fvd.IoError) as caught:
        fvd.open(tmp_path / "2.fvd")
    assert all(f"its backing file '{name}'" in str(caught.value) for name in names[:-1])
    assert "more" not in str(caught.value)


def test_a_failed_write_is_not_reported_as_a_failed_open(tmp_path: Path) -> None:
    image, source = tmp_path / "image.fvd", tmp_path / "source.raw"
    fvd.create(image, MIB, options={"compact_image": True, "chunk_size": "4K"})
    source.write_bytes(b"x" * (MIB + 512))
    base = tmp_path / "base.raw"
    base.write_bytes(b"x" * MIB)
    overlay = tmp_path / "overlay.fvd"
    fvd.create(overlay, backing_file="base.raw", backing_format="raw")
    with fvd.open(overlay) as disk:
        os.truncate(base, 4096)
        with pytest.raises(fvd.IoError) as caught:
            disk.pread(512, 0)
        assert caught.value.op == "read"
    for failed in (
        fvd_command("convert", overlay, tmp_path / "t", ok=[1]),
        fvd_command("compare", "-F", "raw", overlay, source, ok=[2]),
    ):
        assert failed.stderr.startswith(b"fvd: Could not read ")


def test_no_zeros_are_written_with_target_is_zero(tmp_path: Path) -> None:
    source, target = tmp_path / "source.raw", tmp_path / "target.raw"
    source.write_bytes(b"x" * 4096 + bytes(4096) + b"x" * 4096)
    for format in ("raw", "fvd"):
        if format == "raw":
            target.write_bytes(b"old!" * 3072)
        else:
            fvd.convert(target, tmp_path / "target.fvd", source_format="raw", target_format="fvd")
            target = tmp_path / "target.fvd"
        zero = ["convert", "-n", "--target-is-zero", "-f", "raw", "-O", format, source, target]
        old = b"old!" * 1024
        if format == "raw":
            fvd_command(*zero)
            assert target.read_bytes() == b"x" * 4096 + old + b"x" * 4096
            target.write_bytes(b"old!" * 3072)
        else:
            fvd_command(*zero)
            with fvd.open(target) as disk:
                assert disk.pread(12288, 0) == b"x" * 4096 + old + b"x" * 4096
    failed = fvd_command("convert", "--target-is-zero", "-f", "raw", source, tmp_path / "new", ok=[1])
    assert b"--target-is-zero requires use of -n flag" in failed.stderr
    assert not (tmp_path / "new").exists()


def test_a_target_with_a_base_is_never_assumed_to_be_zero(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"x" * 8192)
    source, image = tmp_path / "source.raw", tmp_path / "image.fvd"
    source.write_bytes(bytes(8192))
    fvd.create(image, backing_file="base.raw", backing_format="raw")
    failed = fvd_command("convert", "-n", "--target-is-zero", "-f", "raw", "-O", "fvd", source, image, ok=[1])
    assert b"It has a backing file" in failed.stderr


def test_an_error_names_the_target_and_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "image.fvd"
    failed = fvd_command("convert", "-f", "raw", "-O", "fvd", "-", target, ok=[1], stdin=bytes(MIB))
    told = f"fvd: Could not create a temporary file for '{target}': No such file or directory\n"
    assert failed.stderr.decode() == told


def test_a_missing_trusted_folder_does_not_prevent_an_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fvd.create(tmp_path / "disk.fvd", MIB)
    monkeypatch.setattr("support.TOOLS_ENV", {**os.environ, "FVD_TRUST": str(tmp_path / "not mounted")})
    fvd_command("map", tmp_path / "disk.fvd")
