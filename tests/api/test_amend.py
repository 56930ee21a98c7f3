"""Changing images that exist."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

import fvd
from fvd.amendable import ALIASES, AMENDABLE
from fvd.options import FVD_OPTIONS, Option
from fvd.types import ImageOptions
from support import fvd_command
from support.corpus import Case, cases
from support.disks import content
from support.header import FENCE, FENCE_OFFSET, FIELDS_END, REDO, integer, read_region, redo_copy, text

MIB = 1 << 20
GROWN = 192 * 1024


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(os.urandom(2 * MIB))
    return path


@pytest.fixture
def overlay(base: Path) -> Path:
    path = base.parent / "overlay.fvd"
    options: ImageOptions = {
        "compact_image": True,
        "chunk_size": "64K",
        "data_file": "data.raw",
    }
    fvd.create(path, 3 * MIB, backing_file=base.name, backing_format="raw", options=options)
    return path


def header(path: Path) -> dict[str, Any]:
    return fvd.dump(path)["header"]


VALUES: dict[str, str | int | bool] = {
    "size": 4 * MIB,
    "base_img": "other/base.raw",
    "base_img_fmt": "qcow2",
    "data_file": "other.raw",
    "data_file_fmt": "raw",
    "clean_shutdown": False,
    "write_updates_base_img": "writeback",
    "prefetch_start_delay": -7,
    "prefetch_perf_calc_alpha": 33,
}


FIELDS = [option.name for option in AMENDABLE if option.name != "backing_pin"]
"""Those that a field of the header holds."""


@pytest.mark.parametrize("name", FIELDS + list(ALIASES))
def test_every_attribute_changes_its_field(overlay: Path, name: str) -> None:
    field = ALIASES.get(name, name)
    kind = next(option.kind for option in AMENDABLE if option.name == field)
    value = VALUES.get(field, True if kind == "switch" else 12 * MIB)
    before = header(overlay)
    given: dict[str, Any] = {name: value}
    fvd.amend(overlay, backing_unsafe=True, **given)
    after = header(overlay)
    changed = {key: after[key] for key in after if after[key] != before[key]}
    assert changed == {"virtual_disk_size" if field == "size" else field: value}


NUMBERS = [option for option in AMENDABLE if option.kind in ("number", "size") and option.name != "size"]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_the_help_of_a_number_tells_its_range_and_its_default(base: Path, option: Option) -> None:
    path = base.with_name("new.fvd")
    fvd.create(path, backing_file=base.name, options={"compact_image": True})
    default = re.search(r"default: (-?\w+)", option.limits)
    assert default is not None
    assert header(path)[option.name] == option.parse(default[1])
    limits = re.search(r"(?:, |^)(-?\d+) to (\d+)\b(?!\^)", option.limits)
    if limits is None:
        assert "2^63 - 1" in option.limits or "from 1," in option.limits
        return
    least, most = int(limits[1]), int(limits[2])

    def set_to(value: int) -> None:
        given: dict[str, Any] = {option.name: value}
        fvd.amend(path, **given)

    set_to(least)
    if "rounded" not in option.limits:
        set_to(most)
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=option.name):
            set_to(value)


def test_every_option_of_creation_says_what_is_accepted() -> None:
    for option in (*FVD_OPTIONS, *AMENDABLE):
        said = option.help()
        assert option.limits in said
        if option.name not in ("size", "backing_file", "base_img", "data_file", "clean_shutdown"):
            assert "default: " in option.limits or option in AMENDABLE, option.name
        if option.kind in ("number", "size", "signed size") and option.name != "size":
            units = ("bytes", "seconds", "milliseconds", "KiB/s", "percent")
            assert option.limits.startswith(units) or option.name == "num_prefetch_slots", option.name


def test_a_string_is_read_as_on_the_command_line(overlay: Path) -> None:
    fvd.amend(overlay, size="3.5M", copy_on_read="on", need_zero_init="1", bytes_per_prefetch="64k")
    now = header(overlay)
    assert now["virtual_disk_size"] == 7 * MIB // 2
    assert (now["copy_on_read"], now["need_zero_init"], now["bytes_per_prefetch"]) == (1, 1, 65536)


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"nonsense": 1}, "Invalid parameter 'nonsense'"),
        ({"block_size": 512}, "'block_size' cannot be changed"),
        ({"chunk_size": "64K"}, "'chunk_size' cannot be changed"),
        ({"prefetch_perf_calc_alpha": 101}, "'prefetch_perf_calc_alpha' expects a number from 0 to 100"),
        ({"max_num_outstanding_prefetch_writes": 0}, "'num_prefetch_slots' expects a number from 1"),
        ({"size": MIB}, "Use --shrink"),
        ({"size": -1}, "size is -1"),
        ({"size": 1 << 63}, "'size' expects a number from 0 to 9223372036854775296, not 9223372036854775808"),
        ({"base_img": "n" * 1024}, "base_img has 1024 bytes"),
        ({"base_img": ""}, "still in the backing file"),
        ({"base_img": "overlay.fvd"}, "is the image itself"),
        ({"data_file": ""}, "the image has to name it"),
        ({"backing_fmt": "vmdk"}, "expects one of '', 'raw', 'qcow2', 'fvd'"),
        ({"copy_on_read": 1}, "'copy_on_read' does not accept 1"),
        ({"copy_on_read": "maybe"}, "expects 'on' or 'off'"),
    ],
)
def test_impossible_values_are_refused_and_nothing_changes(
    overlay: Path, attributes: dict[str, Any], complaint: str
) -> None:
    before = overlay.read_bytes()
    with pytest.raises(ValueError, match=complaint):
        fvd.amend(overlay, need_zero_init=True, **attributes)
    assert overlay.read_bytes() == before


def test_the_base_may_move(base: Path, overlay: Path) -> None:
    with fvd.open(overlay) as image:
        before = content(image)
    base.rename(base.with_name("moved.raw"))
    with pytest.raises(fvd.FvdError, match=r"base\.raw"):
        fvd.open(overlay)
    fvd.amend(overlay, backing_file="moved.raw", backing_fmt="")
    with fvd.open(overlay) as image:
        assert content(image) == before


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        (
            {"base_img": "none.raw"},
            r"its backing file 'none\.raw' \(.*/none\.raw\) cannot be opened: No such",
        ),
        ({"base_img": "none.raw", "base_img_fmt": "fvd"}, "its backing file .* No such file"),
        ({"base_img_fmt": "qcow2"}, r"its backing file 'base\.raw' .*: It is not a qcow2 image"),
        (
            {"base_img": "lacks.fvd", "base_img_fmt": ""},
            r"'lacks\.fvd' .*: its backing file 'away\.raw' .*: No such",
        ),
        ({"base_img": "above.fvd", "base_img_fmt": "fvd"}, "part of its own backing chain"),
        ({"base_img": "folder"}, "It is a directory"),
        ({"data_file": "none.raw"}, r"its data file 'none\.raw' \(.*/none\.raw\) cannot be opened: No such"),
        ({"data_file": "folder"}, "its data file 'folder' .*: It is a directory"),
    ],
)
def test_a_file_that_cannot_be_opened_is_named_only_unchecked(
    overlay: Path, attributes: dict[str, Any], complaint: str
) -> None:
    (overlay.parent / "folder").mkdir()
    fvd.create(overlay.parent / "above.fvd", backing_file=overlay.name, backing_format="fvd")
    fvd.create(overlay.parent / "lacks.fvd", MIB, backing_file="away.raw", backing_unsafe=True)
    before = overlay.read_bytes()
    with pytest.raises(fvd.FvdError, match=complaint) as caught:
        fvd.amend(overlay, copy_on_read=True, **attributes)
    assert caught.value.filename == str(overlay)
    assert "-u, or backing_unsafe=True" in str(caught.value)
    assert overlay.read_bytes() == before
    fvd.amend(overlay, backing_unsafe=True, **attributes)
    now = header(overlay)
    assert {name: now[name] for name in attributes} == attributes


def test_a_new_base_is_found_and_may_be_in_use(base: Path, overlay: Path) -> None:
    below = overlay.parent / "below.fvd"
    fvd.create(below, backing_file=base.name, backing_format="raw")
    with fvd.open(below, "r+"):
        fvd.amend(overlay, base_img="below.fvd", base_img_fmt="fvd")
    # The user names the file, so no trust is needed, as in `create`.
    new_base = overlay.parent / "other" / "base.raw"
    new_base.parent.mkdir()
    base.rename(new_base)
    path = overlay.parent / "images" / "overlay.fvd"
    path.parent.mkdir()
    overlay.rename(path)
    fvd.amend(path, base_img="../other/base.raw", base_img_fmt="raw")
    # Here the image names it.
    with pytest.raises(fvd.NotPermittedError, match="is not trusted"):
        fvd.amend(path, base_img_fmt="")
    fvd.amend(path, base_img_fmt="", trust=[new_base.parent])


def test_the_command_refuses_a_missing_base_unless_told(overlay: Path) -> None:
    said = fvd_command("amend", "-o", "backing_file=none.raw", overlay, ok=[1]).stderr.decode()
    missing = overlay.with_name("none.raw")
    assert said == (
        f"fvd: Could not amend '{overlay}': its backing file 'none.raw' ({missing}) cannot be opened: "
        "No such file or directory; -u, or backing_unsafe=True, writes the name without a look\n"
    )
    fvd_command("amend", "-u", "-o", "backing_file=none.raw", overlay)
    fvd_command("update", overlay, "data_file=none.data", ok=[1])
    fvd_command("update", "--backing-unsafe", overlay, "data_file=none.data")
    now = header(overlay)
    assert (now["base_img"], now["data_file"]) == ("none.raw", "none.data")


def test_a_base_is_dropped_once_everything_is_local(base: Path, overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.pwrite(base.read_bytes(), 0)
    fvd.amend(overlay, base_img="")
    base.unlink()
    with fvd.open(overlay) as image:
        assert image.pread(3 * MIB, 0)[2 * MIB :] == bytes(MIB)
    assert "backing-filename" not in fvd.info(overlay)


def test_the_data_file_may_move(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"kept", 5 * 65536)
        before = content(image)
    data = overlay.with_name("data.raw")
    data.rename(data.with_name("moved.raw"))
    fvd.amend(overlay, data_file="moved.raw", size=5 * MIB)
    with fvd.open(overlay) as image:
        assert content(image) == before + bytes(2 * MIB)


def test_info_shows_what_has_changed(overlay: Path) -> None:
    fvd.amend(overlay, copy_on_read=True, prefetch_start_delay=9, num_prefetch_slots=5, size=4 * MIB)
    info = fvd.info(overlay)
    data = info["format-specific"]["data"]
    assert info["virtual-size"] == 4 * MIB
    assert (data["copy-on-read"], data["prefetch-start-delay"], data["prefetch"]["slots"]) == (True, 9, 5)


def interrupt(path: Path, changes: dict[int, bytes], fence: bytes = FENCE) -> None:
    """Leaves the state of an amendment that was interrupted after its copy and the fence were written."""
    region = read_region(path)
    with path.open("r+b") as file:
        file.seek(REDO)
        file.write(redo_copy(region, changes))
        file.seek(FENCE_OFFSET)
        file.write(fence)


def test_an_interrupted_change_is_finished_by_the_next_writer(overlay: Path) -> None:
    interrupt(overlay, {12: (4 * MIB).to_bytes(8, "little"), 1096: b"\1", 28: b"B"})
    before = overlay.read_bytes()
    info = fvd.info(overlay)
    assert (info["virtual-size"], info["backing-filename"]) == (4 * MIB, "Base.raw")
    assert header(overlay)["copy_on_read"] == 1
    found = fvd.check(overlay)
    assert found["needs-recovery"]
    assert (found["corruptions"], "interrupted" in " ".join(found["messages"])) == (0, True)
    os.rename(overlay.with_name("base.raw"), overlay.with_name("Base.raw"))
    with fvd.open(overlay) as image:
        assert image.size == 4 * MIB
    assert overlay.read_bytes() == before
    with fvd.open(overlay, "r+") as image:
        assert image.size == 4 * MIB
    raw = read_region(overlay)
    assert (integer(raw, "virtual_disk_size"), text(raw, "base_img")) == (4 * MIB, "Base.raw")
    assert raw[FIELDS_END:] == bytes(len(raw) - FIELDS_END)


def test_a_copy_does_not_count_before_the_fence_is_written(overlay: Path) -> None:
    """Another program may have used the image since then."""
    region = read_region(overlay)
    interrupt(overlay, {12: (4 * MIB).to_bytes(8, "little")}, fence=region[FENCE_OFFSET:][: len(FENCE)])
    for mode in ("r", "r+"):
        with fvd.open(overlay, mode) as image:
            assert image.size == 3 * MIB
    assert read_region(overlay) == region
    fvd.amend(overlay, size=5 * MIB)
    assert fvd.info(overlay)["virtual-size"] == 5 * MIB


@pytest.mark.parametrize("damage", [REDO, REDO + 5, REDO + 9, REDO + 13, REDO + 17, 2000])
def test_a_torn_copy_or_that_of_another_header_is_ignored(overlay: Path, damage: int) -> None:
    interrupt(overlay, {12: (4 * MIB).to_bytes(8, "little")})
    raw = bytearray(overlay.read_bytes())
    raw[damage] ^= 1
    overlay.write_bytes(raw)
    for mode in ("r", "r+"):
        with pytest.raises(fvd.InvalidImageError, match="suspect"):
            fvd.open(overlay, mode)
    fvd.check(overlay, repair="all")
    with fvd.open(overlay, "r+") as image:
        assert image.size == 3 * MIB


def test_an_image_in_use_is_left_alone(overlay: Path) -> None:
    with fvd.open(overlay), pytest.raises(fvd.InUseError):
        fvd.amend(overlay, copy_on_read=True)


def test_only_fvd_images_can_be_amended(base: Path) -> None:
    with pytest.raises(fvd.UnsupportedError, match="does not support option amendment"):
        fvd.amend(base, size=MIB)


def test_a_smaller_disk_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "small.fvd"
    fvd.create(
        path, 8 * MIB, options={"compact_image": True, "chunk_size": 65536, "storage_grow_unit": 65536}
    )
    with fvd.open(path, "r+") as image:
        for chunk in reversed(range(128)):
            image.pwrite(bytes([chunk + 1]) * 65536, chunk * 65536)
        before = content(image)
    length = path.stat().st_size
    fvd.amend(path, size="1.5M", shrink=True)
    assert path.stat().st_size == length - 104 * 65536
    assert fvd.check(path)["leaks"] == 0
    fvd.amend(path, size="8M")
    with fvd.open(path) as image:
        assert content(image) == before[: 3 * MIB // 2] + bytes(13 * MIB // 2)


@pytest.mark.parametrize("case", [case for case in cases() if case.recoverable and case.hashed], ids=str)
def test_images_of_the_original_grow_and_shrink(case: Case, tmp_path: Path) -> None:
    path = case.unpack(tmp_path)
    with fvd.open(path) as image:
        before = content(image)
    if case.name == "crash-wrapped-journal":
        # Its table fills its pages, and its journal has the minimum size.
        with pytest.raises(ValueError, match=r"no room for the table .* This image cannot grow"):
            fvd.amend(path, size=case.size + GROWN)
        return
    fvd.amend(path, size=case.size + GROWN)
    assert header(path)["virtual_disk_size"] == case.size + GROWN
    with fvd.open(path, "r+") as image:
        assert content(image) == before + bytes(GROWN)
        image.pwrite(b"\1" * GROWN, case.size)
    half = case.size // 1024 * 512
    fvd.amend(path, size=half, shrink=True)
    fvd.amend(path, size=case.size + GROWN)
    with fvd.open(path) as image:
        assert content(image) == before[:half] + bytes(case.size + GROWN - half)
    found = fvd.check(path, backing_chain=True)
    assert (found["corruptions"], found["leaks"]) == (0, 0)


def test_switching_to_write_through_updates_the_base(overlay: Path) -> None:
    base = overlay.parent / "base.raw"
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"only here", 4096)
    fvd.amend(overlay, write_updates_base_img="writethrough", base_img_fmt="raw")
    with pytest.raises(fvd.FvdError, match="write_base"):
        fvd.open(overlay, "r+")
    with pytest.raises(ValueError, match="The backing file may lack what the image has"):
        fvd.amend(overlay, write_updates_base_img="no")
    with fvd.open(overlay, "r+", write_base=True):
        pass
    with base.open("rb") as file:
        file.seek(4096)
        assert file.read(9) == b"only here"
    fvd.amend(overlay, write_updates_base_img="no")
    with fvd.open(overlay) as image:
        assert image.pread(9, 4096) == b"only here"


def test_an_empty_cache_has_nothing_to_write_to_its_base(overlay: Path) -> None:
    fvd.amend(overlay, write_updates_base_img="writeback", base_img_fmt="raw")
    assert header(overlay)["clean_shutdown"] == 1
    fvd.amend(overlay, write_updates_base_img="no")


def test_the_command_updates_the_base_before_it_amends(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"only here", 4096)
    fvd.amend(overlay, write_updates_base_img="writeback", base_img_fmt="raw")
    amend = ("amend", "-o", "write_updates_base_img=no")
    assert b"--write-base" in fvd_command(*amend, overlay, ok=[1]).stderr
    fvd_command(*amend, "--write-base", overlay)
    assert b"only here" in (overlay.parent / "base.raw").read_bytes()


def test_the_data_file_cannot_become_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(MIB))
    path = tmp_path / "disk.fvd"
    fvd.create(path, backing_file="base.raw", backing_format="raw", options={"data_file": "data.raw"})
    with pytest.raises(ValueError, match="would be part of the backing chain"):
        fvd.amend(path, data_file="base.raw")
