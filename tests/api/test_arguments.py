"""Arguments: path objects, open images, names of options; and the messages about invalid ones."""

import asyncio
import warnings
from pathlib import Path

import pytest

import fvd
import fvd.aio
from support import MIB


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(b"\7" * MIB)
    return path


def test_a_path_object_is_taken_wherever_a_file_is_named(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "overlay.fvd"
    made = fvd.create(
        path,
        backing_file=Path("base.raw"),
        backing_format="raw",
        options={"data_file": Path("data.raw"), "compact_image": True},
    )
    assert (made["options"]["backing_file"], made["options"]["data_file"]) == ("base.raw", "data.raw")
    fvd.amend(path, backing_file=base, backing_fmt="raw")
    fvd.amend(path, base_img=Path("base.raw"), data_file=Path("data.raw"), trust=[tmp_path])
    with fvd.open(path, "r+", trust=[tmp_path]) as image:
        assert image.pread(4, 0) == b"\7" * 4
    fvd.convert(base, tmp_path / "copy.fvd", format="fvd", backing_file=base, backing_format="raw")


def test_a_path_object_is_a_file_whatever_its_name_looks_like(tmp_path: Path) -> None:
    (tmp_path / "nbd:x.raw").write_bytes(b"\7" * MIB)
    made = fvd.create(tmp_path / "disk.fvd", backing_file=Path("./nbd:x.raw"), backing_format="raw")
    assert made["options"]["backing_file"] == "./nbd:x.raw"
    with fvd.open(tmp_path / "disk.fvd") as image:
        assert image.pread(4, 0) == b"\7" * 4


def test_an_open_image_can_be_converted_and_compared(tmp_path: Path) -> None:
    path, flat = tmp_path / "disk.fvd", tmp_path / "flat.raw"
    fvd.create(path, 4 * MIB, options={"compact_image": True})
    with fvd.open(path, "r+") as image:
        image.pwrite(b"unflushed", 3 * MIB)
        assert fvd.convert(image, flat) == {"format": "raw", "size": 4 * MIB}
        assert flat.read_bytes()[3 * MIB :][:9] == b"unflushed"
        assert fvd.compare(image, flat)["identical"]
        image.pwrite(b"more", 0)
        assert fvd.compare(flat, image)["offset"] == 0
        assert fvd.compare(image, image)["identical"]
        with pytest.raises(ValueError, match="It is part of the source"):
            fvd.convert(image, path)
        with pytest.raises(ValueError, match="has the format fvd, no other"):
            fvd.convert(image, flat, source_format="raw")
    with pytest.raises(ValueError, match="closed image"):
        fvd.convert(image, flat)
    with pytest.raises(ValueError, match="closed image"):
        fvd.compare(flat, image)


def test_an_image_of_asyncio_is_converted_too(tmp_path: Path) -> None:
    path, flat = tmp_path / "disk.fvd", tmp_path / "flat.raw"
    fvd.create(path, MIB)

    async def main() -> None:
        async with fvd.aio.open(path, "r+") as image:
            await image.pwrite(b"here", 512)
            await asyncio.to_thread(fvd.convert, image, flat)
            assert fvd.compare(image, flat)["identical"]

    asyncio.run(main())
    assert flat.read_bytes()[512:516] == b"here"


@pytest.mark.parametrize("wrong", [None, 1.5, ["disk.fvd"]])
def test_the_error_about_a_wrong_argument_names_its_type(wrong: object, tmp_path: Path) -> None:
    kind = type(wrong).__name__
    with pytest.raises(TypeError, match=f"a path, an open image or a source is needed, not {kind}"):
        fvd.compare(wrong, tmp_path / "x")  # type: ignore[arg-type]
    needed = "an open image, a source or the descriptor of a stream is needed"
    with pytest.raises(TypeError, match=f"{needed}, not {kind}"):
        fvd.convert(wrong, tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"a path or the descriptor of a stream is needed, not {kind}"):
        fvd.convert(tmp_path / "x", wrong)  # type: ignore[arg-type]


def test_the_target_format_is_given_under_one_name(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "disk.fvd"
    for given in ({"format": "fvd"}, {"target_format": "fvd"}):
        fvd.convert(base, target, **given)  # type: ignore[arg-type]
        assert fvd.info(target)["format"] == "fvd"
    with pytest.raises(ValueError, match="give one of them"):
        fvd.convert(base, target, format="fvd", target_format="fvd")


def test_create_warns_of_images_that_need_trust(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "images" / "overlay.fvd"
    path.parent.mkdir()
    with pytest.warns(UserWarning, match=r"opening it needs trust=\['.*'\]$") as told:
        fvd.create(path, backing_file=base, backing_format="raw")
    assert [warning.filename for warning in told] == [__file__]
    with pytest.raises(fvd.NotPermittedError) as refused:
        fvd.open(path)
    assert refused.value.needs_trust == str(tmp_path)
    assert str(refused.value.strerror).endswith(f"is not trusted: trust=['{tmp_path}'] allows it")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fvd.create(path, backing_file=base, backing_format="raw", trust=[tmp_path])
    fvd.open(path, trust=[refused.value.needs_trust]).close()


def test_a_base_without_a_format_is_warned_of(base: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="backing_file without backing_format") as told:
        fvd.create(tmp_path / "overlay.fvd", backing_file="base.raw")
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match="backing_file without backing_format"):
        fvd.convert(base, tmp_path / "copy.fvd", format="fvd", backing_file="base.raw")


def test_an_image_without_metadata_to_keep_names_no_journal(tmp_path: Path) -> None:
    assert "journal_size" not in fvd.create(tmp_path / "plain.fvd", MIB)["options"]
    assert (
        "journal_size"
        not in fvd.create(tmp_path / "plain.fvd", MIB, options={"journal_size": MIB})["options"]
    )
    compact = fvd.create(tmp_path / "compact.fvd", MIB, options={"compact_image": True})
    assert compact["options"]["journal_size"] == 16 * MIB
    bare = fvd.create(tmp_path / "bare.fvd", MIB, options={"compact_image": True, "journal_size": -1})
    assert bare["options"]["journal_size"] == 0
