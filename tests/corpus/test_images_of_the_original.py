"""Images written by the original driver: their content before and after recovery, and further writes."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

import fvd
from support import CACHE_MODES, MIB, CacheMode, fvd_command
from support.corpus import OWN, Case, cases
from support.disks import allocated, pieces, sha256_file

CASES = cases()
HASHED = [case for case in CASES if case.hashed and case.recoverable]
LARGE = [case for case in CASES if not case.hashed]
SOUND = HASHED + LARGE
# Images that may be killed at any time and opened again: those with a journal, or without metadata to keep in
# it.
JOURNALED = [case for case in HASHED if case.header["journal_size"] > 0 or not case.header["compact_image"]]
SUSPECT = [case for case in CASES if not case.recoverable]
PAGE = 4096


def assert_content(image: fvd.Image, case: Case) -> None:
    """Asserts that the disk has the content given in the JSON, for each MiB and as a whole."""
    assert image.size == case.size
    whole = hashlib.sha256()
    for number, (piece, expected) in enumerate(zip(pieces(image, MIB), case.meta["mib_sha256"], strict=True)):
        assert hashlib.sha256(piece).hexdigest() == expected, f"MiB {number} differs"
        whole.update(piece)
    assert whole.hexdigest() == case.meta["guest_sha256"]


def assert_large_content(image: fvd.Image, case: Case) -> None:
    """Asserts that the ranges listed in the JSON have that content, and that all other storage is zeros."""
    assert image.size == case.size
    listed: dict[int, bytes] = {}
    for read in case.meta["reads"]:
        piece = image.pread(read["length"], read["offset"])
        assert hashlib.sha256(piece).hexdigest() == read["sha256"], read
        listed[read["offset"]] = piece
    for extent in image.extents():
        if extent["data"]:
            expected = bytearray(extent["length"])
            for offset, piece in listed.items():
                start, end = (
                    max(offset, extent["start"]),
                    min(offset + len(piece), extent["start"] + len(expected)),
                )
                if start < end:
                    at = start - extent["start"]
                    expected[at : at + end - start] = piece[start - offset : end - offset]
            assert image.pread(extent["length"], extent["start"]) == expected, extent
        else:
            assert extent["zero"], extent


def files_of(image: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(image.parent.iterdir())}


def check_json(image: Path, *, ok: tuple[int, ...] = (0,)) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(fvd_command("check", "--output=json", image, ok=ok).stdout)
    return result


def test_the_copied_images_exist_without_the_whole_corpus() -> None:
    own = {path.stem for path in OWN.glob("*.json")}
    assert len(own) >= 4
    assert own <= {case.name for case in CASES}
    assert all(case.archive.is_file() for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_header_fields_are_read_as_the_original_wrote_them(case: Case, corpus_image: Path) -> None:
    before = files_of(corpus_image)
    assert fvd.dump(corpus_image)["header"] == case.header
    printed = json.loads(fvd_command("dump", "--output=json", corpus_image).stdout)
    assert printed["header"] == case.header
    assert files_of(corpus_image) == before


@pytest.mark.parametrize("case", CASES, ids=str)
def test_info_shows_the_sizes_and_opens_no_other_file(case: Case, corpus_image: Path) -> None:
    for other in corpus_image.parent.iterdir():
        if other != corpus_image:
            other.unlink()
    told = json.loads(fvd_command("info", "--output=json", corpus_image).stdout)
    assert told["format"] == "fvd"
    assert told["virtual-size"] == case.size
    assert told["actual-size"] == allocated(corpus_image)
    assert told.get("backing-filename", "") == case.header["base_img"]
    assert told["dirty-flag"] is not bool(case.header["clean_shutdown"])
    assert told["format-specific"]["type"] == "fvd"


@pytest.mark.parametrize("case", SOUND, ids=str)
def test_content_read_only_with_no_byte_changed(case: Case, corpus_image: Path) -> None:
    before = files_of(corpus_image)
    with fvd.open(corpus_image) as image:
        (assert_content if case.hashed else assert_large_content)(image, case)
    assert files_of(corpus_image) == before


@pytest.mark.parametrize("case", SOUND, ids=str)
def test_content_read_write_recovers_and_stays(case: Case, corpus_image: Path) -> None:
    right = assert_content if case.hashed else assert_large_content
    with fvd.open(corpus_image, "r+") as image:
        right(image, case)
    with fvd.open(corpus_image, "r+") as image:
        right(image, case)
    with fvd.open(corpus_image) as image:
        right(image, case)
    assert fvd.dump(corpus_image)["header"]["clean_shutdown"] == 1
    assert check_json(corpus_image).get("corruptions", 0) == 0


@pytest.mark.parametrize("case", JOURNALED, ids=str)
def test_recovery_without_close_is_recovered_again(case: Case, corpus_image: Path, tmp_path: Path) -> None:
    """A copy taken while the image is open has the state that a killed process leaves."""
    copy = tmp_path / "killed"
    copy.mkdir()
    with fvd.open(corpus_image, "r+") as image:
        image.pwrite(image.pread(PAGE, 0), 0)
        image.flush()
        for path in corpus_image.parent.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
    with fvd.open(copy / "image.fvd", "r+") as image:
        assert_content(image, case)
    assert check_json(copy / "image.fvd").get("corruptions", 0) == 0


@pytest.mark.parametrize("case", HASHED, ids=str)
def test_extents_tell_where_every_byte_is(case: Case, corpus_image: Path) -> None:
    with fvd.open(corpus_image) as image:
        position = 0
        for extent in image.extents():
            assert extent["start"] == position
            assert extent["length"] > 0
            position += extent["length"]
            read = image.pread(extent["length"], extent["start"])
            if extent["zero"]:
                assert not any(read), extent
            if "offset" in extent:
                with Path(corpus_image.parent, extent["filename"]).open("rb") as file:
                    file.seek(extent["offset"])
                    stored = file.read(extent["length"])
                assert stored.ljust(extent["length"], b"\0") == read, extent
        assert position == image.size


@pytest.mark.parametrize("case", HASHED, ids=str)
def test_converted_to_raw_it_has_the_same_content(case: Case, corpus_image: Path) -> None:
    raw = corpus_image.with_name("converted.raw")
    fvd_command("convert", "-O", "raw", corpus_image, raw)
    assert sha256_file(raw) == case.meta["guest_sha256"]


@pytest.mark.parametrize("cache", CACHE_MODES)
@pytest.mark.parametrize("case", HASHED, ids=str)
def test_further_writes_survive_a_close_and_an_open(case: Case, corpus_image: Path, cache: CacheMode) -> None:
    others = {name: sha for name, sha in files_of(corpus_image).items() if name.startswith("base")}
    rng = random.Random(f"{case.name} {cache}")
    with fvd.open(corpus_image) as image:
        model = bytearray(b"".join(pieces(image)))
    assert hashlib.sha256(model).hexdigest() == case.meta["guest_sha256"]
    for _ in range(2):
        with fvd.open(corpus_image, "r+", cache=cache) as image:
            for _ in range(60):
                offset = rng.randrange(len(model))
                length = min(rng.choice([1, 511, 512, 4096, 7680, 65536, 300_000]), len(model) - offset)
                match rng.randrange(6):
                    case 0:
                        image.zero(length, offset)
                        model[offset : offset + length] = bytes(length)
                    case 1:
                        assert image.pread(length, offset) == model[offset : offset + length]
                    case 2:
                        image.flush()
                    case _:
                        data = rng.randbytes(length)
                        assert image.pwrite(data, offset) == length
                        model[offset : offset + length] = data
        with fvd.open(corpus_image) as image:
            assert b"".join(pieces(image)) == model
        result = check_json(corpus_image, ok=(0, 3))
        assert result.get("corruptions", 0) == 0
    fvd_command("check", "-r", "leaks", corpus_image)
    fvd_command("check", corpus_image)
    with fvd.open(corpus_image) as image:
        assert b"".join(pieces(image)) == model
    assert others.items() <= files_of(corpus_image).items(), "the base was changed"


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_large_disk_takes_writes_at_its_ends(case: Case, corpus_image: Path) -> None:
    rng = random.Random(case.name)
    # Between, across and after the existing data, and at the end of the disk.
    written = {offset: rng.randbytes(9000) for offset in (MIB - 4500, case.size // 3, case.size - 9000)}
    with fvd.open(corpus_image, "r+") as image:
        for offset, data in written.items():
            image.pwrite(data, offset)
        with pytest.raises(ValueError, match=r"beyond|end|size"):
            image.pwrite(b"x", case.size)
    with fvd.open(corpus_image) as image:
        for offset, data in written.items():
            assert image.pread(len(data), offset) == data
    assert check_json(corpus_image).get("corruptions", 0) == 0


@pytest.mark.parametrize("case", SUSPECT, ids=str)
def test_killed_without_a_journal_is_suspect_and_not_opened(case: Case, corpus_image: Path) -> None:
    before = files_of(corpus_image)
    told = json.loads(fvd_command("info", "--output=json", corpus_image).stdout)
    assert told["format-specific"]["data"]["suspect"] is True
    assert told["dirty-flag"] is True
    assert "suspect" in fvd_command("info", corpus_image).stdout.decode()

    result = check_json(corpus_image, ok=(2,))
    assert result["suspect"] is True

    with pytest.raises(fvd.InvalidImageError, match="journal"):
        fvd.open(corpus_image, "r+")
    with pytest.raises(fvd.InvalidImageError, match="journal"):
        fvd.open(corpus_image)
    assert files_of(corpus_image) == before


@pytest.mark.parametrize("case", SUSPECT, ids=str)
def test_suspect_image_opens_after_a_repair(case: Case, corpus_image: Path) -> None:
    fvd_command("check", "-r", "all", corpus_image)
    assert check_json(corpus_image).get("corruptions", 0) == 0
    with fvd.open(corpus_image, "r+") as image:
        image.pwrite(b"usable", 0)
    with fvd.open(corpus_image) as image:
        assert image.pread(6, 0) == b"usable"
