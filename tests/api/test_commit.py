"""Commit: what an image has is in its base afterwards, as qemu-img commit leaves a qcow2 image."""

import random
from pathlib import Path

import pytest

import fvd
from fvd.types import Format, ImageOptions
from support import FVD, KIB, MIB, run
from support.disks import allocated, content, random_disk

SIZE = 4 * MIB
KINDS: dict[str, ImageOptions] = {
    "plain": {},
    "compact": {"compact_image": True, "chunk_size": "64K", "block_size": "24K"},
    "data-file": {"data_file": "data.raw"},
    "no-journal": {"journal_size": -1, "compact_image": True, "chunk_size": "64K"},
}


def disk(path: Path) -> bytes:
    with fvd.open(path) as image:
        return content(image)


def writes(seed: int, size: int) -> list[tuple[int, bytes | None]]:
    """Writes, and zeros (None stands for 64 KiB of them)."""
    rng = random.Random(seed)
    return [
        (
            rng.randrange((size - 128 * KIB) // 512) * 512,
            rng.choice([None, rng.randbytes(rng.choice([512, 70000]))]),
        )
        for _ in range(20)
    ]


def change(path: Path, seed: int) -> None:
    with fvd.open(path, "r+") as image:
        for offset, data in writes(seed, image.size):
            if data is None:
                image.zero(64 * KIB, offset)
            else:
                image.pwrite(data, offset)


def change_qcow2(path: Path, seed: int, size: int) -> None:
    place = path.with_suffix(".data")
    for offset, data in writes(seed, size):
        if data is None:
            command = f"write -z {offset} {64 * KIB}"
        else:
            place.write_bytes(data)
            command = f"write -s {place} {offset} {len(data)}"
        run("qemu-io", "-f", "qcow2", "-c", command, path)


def overlay(
    folder: Path, base: str, *, name: str = "top.fvd", kind: str = "plain", format: Format = "raw"
) -> Path:
    image = folder / name
    fvd.create(image, backing_file=base, backing_format=format, options=KINDS[kind])
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_base_and_disk_are_as_qemu_img_leaves_them(tmp_path: Path, kind: str) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    other = tmp_path / "other.raw"
    other.write_bytes(base.read_bytes())
    qcow2 = tmp_path / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", other, "-F", "raw", qcow2)
    image = overlay(tmp_path, "base.raw", kind=kind)
    change(image, 2)
    change_qcow2(qcow2, 2, SIZE)
    before = disk(image)
    fvd.commit(image)
    run("qemu-img", "commit", "-q", qcow2)
    assert base.read_bytes() == other.read_bytes() == before == disk(image)
    assert all(extent["depth"] > 0 for extent in fvd.map(image))
    assert fvd.check(image)["corruptions"] == 0
    change(image, 3)
    change_qcow2(qcow2, 3, SIZE)
    run("qemu-img", "convert", "-O", "raw", qcow2, tmp_path / "flat.raw")
    assert disk(image) == (tmp_path / "flat.raw").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_image_takes_no_more_space_than_a_new_one(tmp_path: Path, kind: str) -> None:
    random_disk(tmp_path / "base.raw", SIZE, seed=1)
    image = overlay(tmp_path, "base.raw", kind=kind)
    with fvd.open(image, "r+") as opened:
        opened.pwrite(random.Random(4).randbytes(2 * MIB), MIB)
    data = tmp_path / "data.raw" if kind == "data-file" else image
    full = allocated(data)
    fvd.commit(image)
    assert allocated(data) < full - 2 * MIB + 300 * KIB


def test_an_image_that_keeps_its_data_has_it_still(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    image = overlay(tmp_path, "base.raw")
    change(image, 2)
    before, entries = disk(image), list(fvd.map(image))
    result = fvd.commit(image, keep=True)
    assert result["written"] > 0
    assert base.read_bytes() == before == disk(image)
    assert [entry["depth"] for entry in fvd.map(image)] == [entry["depth"] for entry in entries]
    assert fvd.commit(image) == {"size": SIZE, "written": 0}


def test_a_chain_of_three_is_committed_from_the_top(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    middle = overlay(tmp_path, "base.raw", name="middle.fvd", kind="compact")
    change(middle, 2)
    top = overlay(tmp_path, "middle.fvd", format="fvd")
    change(top, 3)
    before, untouched = disk(top), base.read_bytes()
    fvd.commit(top)
    assert disk(middle) == disk(top) == before
    assert base.read_bytes() == untouched
    assert fvd.check(middle)["corruptions"] == 0
    fvd.commit(middle)
    assert base.read_bytes() == disk(top) == before


@pytest.mark.parametrize("format", ["raw", "fvd"])
def test_a_smaller_base_grows(tmp_path: Path, format: Format) -> None:
    if format == "raw":
        random_disk(tmp_path / "base", MIB - 100, seed=1)
    else:
        random_disk(tmp_path / "low.raw", MIB, seed=1)
        fvd.create(tmp_path / "base", backing_file="low.raw", backing_format="raw")
    image = tmp_path / "top.fvd"
    fvd.create(image, 3 * MIB, backing_file="base", backing_format=format)
    change(image, 2)
    before = disk(image)
    fvd.commit(image)
    assert disk(image) == before
    base = (tmp_path / "base").read_bytes() if format == "raw" else disk(tmp_path / "base")
    assert base == before


def test_a_longer_base_keeps_its_end(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1, density=1)
    end = base.read_bytes()[MIB:]
    image = tmp_path / "top.fvd"
    fvd.create(image, MIB, backing_file="base.raw", backing_format="raw")
    change(image, 2)
    before = disk(image)
    fvd.commit(image)
    assert base.read_bytes() == before + end


def test_zeros_of_the_image_make_holes_in_the_base(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1, density=1)
    image = overlay(tmp_path, "base.raw")
    with fvd.open(image, "r+") as opened:
        opened.zero(2 * MIB, 0)
        opened.pwrite(bytes(MIB), 2 * MIB)
    fvd.commit(image)
    assert base.read_bytes()[: 3 * MIB] == bytes(3 * MIB)
    assert allocated(base) <= MIB + 64 * KIB


def test_copies_of_the_base_are_not_written(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    holes = allocated(base)
    image = overlay(tmp_path, "base.raw")
    before = base.read_bytes()
    with fvd.open(image, "r+") as opened:
        opened.pwrite(before, 0)
    assert fvd.commit(image)["written"] == 0
    assert allocated(base) < holes + 64 * KIB


def test_an_exception_of_progress_ends_it_and_another_call_completes_it(tmp_path: Path) -> None:
    base = random_disk(tmp_path / "base.raw", SIZE, seed=1)
    image = overlay(tmp_path, "base.raw")
    change(image, 2)
    before = disk(image)

    def stop(_done: int, _total: int) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        fvd.commit(image, progress=stop, rate_limit=100 * KIB)
    assert disk(image) == before
    calls: list[tuple[int, int]] = []
    fvd.commit(image, progress=lambda done, total: calls.append((done, total)))
    assert base.read_bytes() == disk(image) == before
    assert calls[-1] == (SIZE, SIZE)


def test_what_cannot_be_committed_is_refused_with_the_way_out(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=1)
    alone = tmp_path / "alone.fvd"
    fvd.create(alone, MIB)
    with pytest.raises(ValueError, match="no backing file"):
        fvd.commit(alone)
    with pytest.raises(fvd.UnsupportedError, match="does not support 'commit'"):
        fvd.commit(tmp_path / "base.raw")
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "1M")
    with pytest.raises(fvd.UnsupportedError, match=r"qcow2.*fvd serve"):
        fvd.commit(overlay(tmp_path, "base.qcow2", format="qcow2"))
    with pytest.warns(UserWarning, match="format"):
        fvd.create(tmp_path / "guess.fvd", backing_file="base.raw")
    with pytest.raises(fvd.UnsupportedError, match="backing_fmt=raw"):
        fvd.commit(tmp_path / "guess.fvd")
    options: ImageOptions = {"write_updates_base_img": "writeback"}
    fvd.create(tmp_path / "cache.fvd", backing_file="base.raw", backing_format="raw", options=options)
    with pytest.raises(ValueError, match="writes to its base itself"):
        fvd.commit(tmp_path / "cache.fvd")
    image = overlay(tmp_path, "base.raw", name="used.fvd")
    with pytest.raises(ValueError, match="rate_limit"):
        fvd.commit(image, rate_limit=-1)
    other = overlay(tmp_path, "base.raw", name="other.fvd")
    with fvd.open(other), pytest.raises(fvd.InUseError):
        fvd.commit(image)
    with fvd.open(image), pytest.raises(fvd.InUseError):
        fvd.commit(image)


def test_the_command_says_what_it_did_and_refuses_a_lower_layer(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=1)
    image = overlay(tmp_path, "base.raw")
    assert run(FVD, "commit", "-r", "20M", "-p", image).stdout.endswith(b"Image committed.\n")
    assert run(FVD, "commit", "-q", image).stdout == b""
    assert b"-b is not supported" in run(FVD, "commit", "-b", "base.raw", image, ok=[1]).stderr
    assert b"Invalid rate limit 'x'" in run(FVD, "commit", "-r", "x", image, ok=[1]).stderr
