"""Backing chains: which images depend on which, what may be opened, and concurrent use."""

import os
from pathlib import Path

import pytest

import fvd
from fvd.types import ImageOptions

MIB = 1 << 20


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(os.urandom(2 * MIB))
    return path


def test_three_images_stand_on_one_another(base: Path, tmp_path: Path) -> None:
    model = bytearray(base.read_bytes()) + bytes(MIB)
    below, depth = base.name, 4
    for level in range(depth):
        path = tmp_path / f"level{level}.fvd"
        options: ImageOptions = {"block_size": 512 << level, "compact_image": level % 2 == 1}
        fvd.create(path, 3 * MIB, backing_file=below, options=options)
        with fvd.open(path, "r+") as image:
            assert image.pread(image.size, 0) == model
            data = os.urandom(70_000)
            offset = level * 600_000 + 123
            image.pwrite(data, offset)
            model[offset : offset + len(data)] = data
        below = path.name
    with fvd.open(path) as image:
        assert image.pread(image.size, 0) == model
        assert {extent["depth"] for extent in image.extents()} >= {0, 1, 2, 3, 4}
    chain = fvd.info(path, backing_chain=True)
    assert [image["format"] for image in chain] == ["fvd"] * depth + ["raw"]


def test_an_image_that_stands_on_itself_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.fvd", tmp_path / "second.fvd"
    fvd.create(first, MIB)
    fvd.create(second, MIB, backing_file="first.fvd", backing_format="fvd")
    fvd.create(tmp_path / "new.fvd", MIB, backing_file="second.fvd", backing_format="fvd")
    os.rename(tmp_path / "new.fvd", first)
    for call in (fvd.open, lambda path: fvd.info(path, backing_chain=True), fvd.map):
        with pytest.raises(fvd.InvalidImageError, match="its own backing chain"):
            call(first)
    assert fvd.info(first)["format"] == "fvd"


def test_a_base_in_another_folder_needs_trust_and_says_how(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "overlays"
    folder.mkdir()
    path = folder / "overlay.fvd"
    made = fvd.create(path, backing_file="../base.raw")
    assert made["needs_trust"] == [str(tmp_path)]
    with pytest.raises(fvd.NotPermittedError, match=rf"trust=\['{tmp_path}'\] allows it"):
        fvd.open(path)
    with fvd.open(path, trust=[tmp_path]) as image:
        assert image.pread(100, 0) == base.read_bytes()[:100]
    assert fvd.create(tmp_path / "beside.fvd", backing_file="base.raw")["needs_trust"] == []


def test_a_hidden_file_needs_trust_also_below_the_image(base: Path, tmp_path: Path) -> None:
    hidden = tmp_path / ".ssh"
    hidden.mkdir()
    base.rename(hidden / "key")
    made = fvd.create(tmp_path / "overlay.fvd", backing_file=".ssh/key")
    assert made["needs_trust"] == [str(hidden)]
    with pytest.raises(fvd.NotPermittedError, match=rf"is hidden, at .*: trust=\['{hidden}'\] allows it"):
        fvd.open(tmp_path / "overlay.fvd")
    fvd.open(tmp_path / "overlay.fvd", trust=[hidden]).close()


def test_a_link_does_not_lead_out_of_the_directory(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "overlays"
    folder.mkdir()
    (folder / "link.raw").symlink_to(base)
    fvd.create(folder / "overlay.fvd", backing_file="link.raw")
    with pytest.raises(fvd.NotPermittedError, match="trust="):
        fvd.open(folder / "overlay.fvd")


def test_info_check_and_dump_open_nothing_that_an_image_names(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw", options={"data_file": "data.raw"})
    base.unlink()
    (tmp_path / "data.raw").unlink()
    assert fvd.info(path)["backing-filename"] == "base.raw"
    assert fvd.check(path)["corruptions"] == 0
    assert fvd.dump(path)["header"]["data_file"] == "data.raw"
    for call in (fvd.open, lambda path: fvd.info(path, backing_chain=True), fvd.map):
        with pytest.raises(fvd.IoError, match="No such file"):
            call(path)


def test_a_failed_open_leaves_an_unclean_image_unclean(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw")
    if os.fork() == 0:
        image = fvd.open(path, "r+")
        image.pwrite(b"kept", 1000)
        image.flush()
        os._exit(0)
    os.wait()
    assert fvd.info(path)["dirty-flag"] is True
    moved = base.rename(tmp_path / "away.raw")
    with pytest.raises(fvd.IoError):
        fvd.open(path, "r+")
    assert fvd.info(path)["dirty-flag"] is True
    moved.rename(base)
    with fvd.open(path) as image:
        assert image.pread(4, 1000) == b"kept"


def test_one_writer_or_many_readers_unless_locks_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "disk.fvd"
    fvd.create(path, MIB)
    with fvd.open(path), fvd.open(path), pytest.raises(fvd.InUseError):
        fvd.open(path, "r+")
    with fvd.open(path, "r+"):
        for mode in ("r", "r+"):
            with pytest.raises(fvd.InUseError):
                fvd.open(path, mode)
        with pytest.raises(fvd.InUseError):
            fvd.create(path, MIB)
        with fvd.open(path, force_share=True) as image:
            assert image.size == MIB
    with pytest.raises(ValueError, match="only for reading"):
        fvd.open(path, "r+", force_share=True)


def test_a_base_cannot_be_written_while_an_image_stands_on_it(base: Path, tmp_path: Path) -> None:
    fvd.create(tmp_path / "below.fvd", backing_file="base.raw")
    fvd.create(tmp_path / "above.fvd", backing_file="below.fvd", backing_format="fvd")
    with fvd.open(tmp_path / "above.fvd", "r+"), pytest.raises(fvd.InUseError):
        fvd.open(tmp_path / "below.fvd", "r+")


def test_a_failed_creation_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious.raw"
    path.write_bytes(b"precious")
    with pytest.raises(fvd.IoError):
        fvd.create(path, backing_file="missing.raw")
    with pytest.raises(ValueError, match="detect_sparse_hole"):
        fvd.create(path, MIB, options={"detect_sparse_hole": 4096})
    assert path.read_bytes() == b"precious"
    with pytest.raises(fvd.IoError):
        fvd.create(tmp_path / "new.fvd", backing_file="missing.raw")
    assert not (tmp_path / "new.fvd").exists()
