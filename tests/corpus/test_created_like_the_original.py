"""`fvd create` with the options of every image of the original driver gives the same header and layout."""

import re
from pathlib import Path

import pytest

import fvd
from support import fvd_command
from support.corpus import Case, cases
from support.header import (
    CLEAN_SHUTDOWN,
    FIELDS_END,
    bit,
    bitmap,
    integer,
    read_at,
    read_region,
    text,
)

CASES = cases()
# The JSON of an updated image shows the header after the update. Only fields that it did not change are
# compared.
CHANGED_BY_UPDATE = {
    "virtual_disk_size",
    "base_img",
    "data_file",
    "need_zero_init",
    "copy_on_read",
    "clean_shutdown",
    "max_outstanding_copy_on_read_data",
    "prefetch_start_delay",
    "num_prefetch_slots",
    "bytes_per_prefetch",
    "prefetch_min_read_throughput",
    "prefetch_min_write_throughput",
    "prefetch_perf_calc_alpha",
    "prefetch_read_throughput_measure_time",
    "prefetch_write_throughput_measure_time",
    "prefetch_throttle_time",
}


@pytest.fixture
def created(case: Case, corpus_image: Path, tmp_path: Path) -> Path:
    """A new image, created by the translated command, in a folder with only the same base."""
    folder = tmp_path / "created"
    folder.mkdir()
    for base in corpus_image.parent.glob("base.*"):
        base.rename(folder / base.name)
    fvd_command(*case.create_arguments, cwd=folder)
    return folder / "image.fvd"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_header_fields_equal(case: Case, created: Path) -> None:
    expected = case.header | {"clean_shutdown": 1}
    found = fvd.dump(created)["header"]
    if case.updated:
        expected = {name: value for name, value in expected.items() if name not in CHANGED_BY_UPDATE}
        found = {name: value for name, value in found.items() if name not in CHANGED_BY_UPDATE}
    assert found == expected


@pytest.mark.parametrize("case", [case for case in CASES if not case.updated], ids=str)
def test_header_region_is_equal_byte_for_byte(case: Case, created: Path, corpus_image: Path) -> None:
    theirs, ours = bytearray(read_region(corpus_image)), bytearray(read_region(created))
    theirs[CLEAN_SHUTDOWN] = ours[CLEAN_SHUTDOWN]
    assert ours[:FIELDS_END] == theirs[:FIELDS_END]
    assert not any(ours[FIELDS_END:])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_regions_are_as_create_leaves_them(case: Case, created: Path) -> None:
    region = read_region(created)
    assert created.stat().st_size == integer(region, "metadata_size")
    with created.open("rb") as file:
        if not integer(region, "need_zero_init"):  # no search for zeros
            assert not any(read_at(file, integer(region, "bitmap_offset"), integer(region, "bitmap_size")))
        if integer(region, "compact_image"):
            offset = integer(region, "table_offset")
            end = integer(region, "journal_offset") or integer(region, "metadata_size")
            assert read_at(file, offset, end - offset) == b"\xff" * (end - offset)
        assert not any(read_at(file, integer(region, "journal_offset"), integer(region, "journal_size")))
    if text(region, "data_file"):
        assert (created.parent / text(region, "data_file")).is_file()


def detected_hole_size(case: Case) -> int:
    """N of `detect_sparse_hole=N`, or 0 without that option."""
    found = re.search(r"detect_sparse_hole=(\d+)", case.meta["create"])
    return int(found[1]) if found else 0


@pytest.mark.parametrize("case", [case for case in CASES if detected_hole_size(case)], ids=str)
def test_exactly_the_holes_of_the_base_are_marked(case: Case, created: Path) -> None:
    """The image of the original has none of these bits set; its content is the same in both cases."""
    block_size, size = case.header["block_size"], case.header["base_img_size"]
    hole = -(-detected_hole_size(case) // block_size) * block_size
    base = (created.parent / case.header["base_img"]).read_bytes()[:size]
    bits = bitmap(created)
    marked = 0
    for start in range(0, size, hole):
        end = min(start + hole, size)
        is_hole = not any(base[start:end])
        for block in range(start // block_size, -(-end // block_size)):
            assert bit(bits, block) == is_hole, f"block {block}"
        marked += is_hole
    assert marked


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_created_image_is_clean_and_reads_as_its_base(case: Case, created: Path) -> None:
    fvd_command("check", created)
    if case.size > 1 << 30:
        with fvd.open(created) as image:
            assert not any(extent["data"] for extent in image.extents())
        return
    raw = created.with_name("expected.raw")
    bases = list(created.parent.glob("base.*"))
    if bases:
        fvd_command("convert", "-O", "raw", bases[0], raw)
    else:
        raw.touch()
    expected = raw.read_bytes()
    with fvd.open(created) as image:
        size = image.size
        read = image.pread(size, 0)
    assert read == expected[:size].ljust(size, b"\0")
