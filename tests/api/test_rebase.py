"""Rebase: another base, the same content, as qemu-img rebase leaves a qcow2 image."""

import random
from pathlib import Path

import pytest

import fvd
from fvd.types import Format, ImageOptions
from support import FVD, KIB, MIB, run
from support.disks import content, random_disk

SIZE = 4 * MIB
KINDS: dict[str, ImageOptions] = {
    "plain": {},
    "compact": {"compact_image": True, "chunk_size": "64K", "block_size": "24K"},
    "data-file": {"data_file": "data.raw"},
}


def disk(path: Path) -> bytes:
    with fvd.open(path) as image:
        return content(image)


def similar(base: Path, path: Path) -> Path:
    """A disk of which half the pieces are those of `base`."""
    other = bytearray(random.Random(9).randbytes(SIZE))
    for at in range(0, SIZE, 512 * KIB):
        other[at : at + 256 * KIB] = base.read_bytes()[at : at + 256 * KIB]
    path.write_bytes(other)
    return path


def overlay(
    folder: Path, base: str, kind: str = "plain", *, name: str = "top.fvd", format: Format = "raw"
) -> Path:
    image = folder / name
    fvd.create(image, backing_file=base, backing_format=format, options=KINDS[kind])
    with fvd.open(image, "r+") as opened:
        rng = random.Random(5)
        for _ in range(6):
            opened.pwrite(rng.randbytes(5000), rng.randrange(opened.size - 5000))
        opened.zero(60 * KIB, 100 * KIB)
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_differs_is_copied(tmp_path: Path, kind: str) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1, density=1)
    similar(base, tmp_path / "new.raw")
    image = overlay(tmp_path, "base.raw", kind)
    before = disk(image)
    result = fvd.rebase(image, "new.raw", backing_format="raw")
    assert SIZE // 2 - 600 * KIB < result["copied"] < SIZE // 2 + 600 * KIB
    assert fvd.info(image)["backing-filename"] == "new.raw"
    base.unlink()
    assert disk(image) == before
    assert fvd.check(image)["corruptions"] == 0
    assert fvd.rebase(image, "new.raw", backing_format="raw")["copied"] == 0


def test_the_content_is_that_of_qemu_img_with_bases_of_other_sizes(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", 2 * MIB, seed=1)
    for number, size in enumerate((MIB, SIZE)):
        random_disk(tmp_path / "new.raw", size, seed=2)
        image = tmp_path / f"top{number}.fvd"
        qcow2 = tmp_path / f"top{number}.qcow2"
        fvd.create(image, 3 * MIB, backing_file="base.raw", backing_format="raw")
        run(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.raw",
            "-F",
            "raw",
            qcow2,
            "3M",
            cwd=tmp_path,
        )
        before = disk(image)
        fvd.rebase(image, "new.raw", backing_format="raw")
        run("qemu-img", "rebase", "-b", "new.raw", "-F", "raw", qcow2, cwd=tmp_path)
        flat = tmp_path / "flat.raw"
        run("qemu-img", "convert", "-O", "raw", qcow2, flat)
        assert disk(image) == before == flat.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_a_base_needs_none(tmp_path: Path, kind: str) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    image = overlay(tmp_path, "base.raw", kind)
    before = disk(image)
    fvd.rebase(image, None)
    base.unlink()
    assert "backing-filename" not in fvd.info(image)
    assert disk(image) == before
    with pytest.raises(ValueError, match="no backing file"):
        fvd.rebase(image, "base.raw", backing_format="raw", name_only=True)


def test_a_layer_of_a_chain_can_be_left_out(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", SIZE, seed=1)
    overlay(tmp_path, "base.raw", "compact", name="middle.fvd")
    top = tmp_path / "top.fvd"
    fvd.create(top, backing_file="middle.fvd", backing_format="fvd")
    with fvd.open(top, "r+") as image:
        image.pwrite(b"top", 3 * MIB)
    before = disk(top)
    assert 0 < fvd.rebase(top, "base.raw", backing_format="raw")["copied"] < MIB
    (tmp_path / "middle.fvd").unlink()
    assert disk(top) == before


def test_only_the_name_changes_if_that_is_asked_for(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=1)
    image = overlay(tmp_path, "base.raw")
    result = fvd.rebase(image, "elsewhere.raw", backing_format="raw", name_only=True)
    assert result == {"size": MIB, "copied": 0}
    assert fvd.info(image)["backing-filename"] == "elsewhere.raw"
    with pytest.raises(fvd.IoError, match="elsewhere"):
        fvd.open(image)
    fvd.rebase(image, "base.raw", backing_format="raw", name_only=True)
    with pytest.raises(ValueError, match="still in the backing file"):
        fvd.rebase(image, "", name_only=True)


def test_an_interrupted_rebase_keeps_the_old_base_and_can_be_repeated(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1, density=1)
    similar(base, tmp_path / "new.raw")
    image = overlay(tmp_path, "base.raw")
    before = disk(image)

    def stop(_done: int, _total: int) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        fvd.rebase(image, "new.raw", backing_format="raw", progress=stop, rate_limit=100 * KIB)
    assert fvd.info(image)["backing-filename"] == "base.raw"
    assert disk(image) == before
    fvd.rebase(image, "new.raw", backing_format="raw")
    assert disk(image) == before


def test_bases_that_cannot_be_are_refused_and_change_nothing(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=1)
    image = overlay(tmp_path, "base.raw")
    above = tmp_path / "above.fvd"
    fvd.create(above, backing_file="top.fvd", backing_format="fvd")
    with pytest.raises(ValueError, match="the image itself"):
        fvd.rebase(image, "top.fvd", backing_format="fvd")
    with pytest.raises(fvd.FvdError, match=r"above\.fvd"):
        fvd.rebase(image, "above.fvd", backing_format="fvd")
    with pytest.raises(fvd.IoError, match=r"none\.raw"):
        fvd.rebase(image, "none.raw", backing_format="raw")
    with pytest.raises(fvd.UnsupportedError, match="does not support 'rebase'"):
        fvd.rebase(tmp_path / "base.raw", "top.fvd", backing_format="fvd")
    with fvd.open(image), pytest.raises(fvd.InUseError):
        fvd.rebase(image, "base.raw", backing_format="raw")
    assert fvd.info(image)["backing-filename"] == "base.raw"


def test_the_command_has_the_options_of_qemu_img(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=1)
    random_disk(tmp_path / "new.raw", MIB, seed=2)
    image = overlay(tmp_path, "base.raw")
    before = disk(image)
    assert run(FVD, "rebase", "-q", "-p", "-t", "none", "-b", "new.raw", "-F", "raw", image).stdout == b""
    assert disk(image) == before
    assert b"backing file without a format" in run(FVD, "rebase", "-u", "-b", "new.raw", image).stderr
    assert b"-b ''" in run(FVD, "rebase", image, ok=[1]).stderr
    run(FVD, "rebase", "-b", "", image)
    assert disk(image) == before
