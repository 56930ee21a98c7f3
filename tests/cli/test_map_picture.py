"""The picture of a disk."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import fvd
from fvd.cli import _picture
from fvd.types import Extent
from support import FVD, KIB, MIB, run
from support.disks import random_disk

SVG = "{http://www.w3.org/2000/svg}"


def extent(start: int, length: int, depth: int = 0, *, data: bool = True) -> Extent:
    return {
        "start": start,
        "length": length,
        "depth": depth,
        "present": True,
        "zero": not data,
        "data": data,
        "compressed": False,
    }


def drawn(name: str, grid: _picture.Grid, profile: tuple[tuple[int, int], ...] = ()) -> ET.Element:
    return ET.fromstring("".join(_picture.svg(name, grid, profile)))


def test_every_byte_is_counted_once() -> None:
    grid = _picture.Grid(0, 3 * MIB + 512)
    grid.add([extent(0, 5000), extent(5000, MIB, 1), extent(5000 + MIB, 2 * MIB - 4488, 2, data=False)])
    totals = [grid.total(kind) for kind in range(4)]
    assert totals == [5000, MIB, 0, 2 * MIB - 4488]
    assert sum(totals) == grid.end
    counted = [sum(kind[number] for kind in grid.bytes) for number in range(len(grid.bytes[0]))]
    assert counted == [grid.length(number) for number in range(len(counted))]


def test_a_part_of_a_disk_has_only_that_part() -> None:
    grid = _picture.Grid(MIB, 2 * MIB)
    grid.add([extent(0, 4 * MIB)])
    assert grid.total(_picture.LOCAL) == MIB


@pytest.mark.parametrize("size", [0, 512, 4097, 64 * KIB, 1 << 44, (1 << 63) - 512])
def test_any_size_fits(size: int) -> None:
    grid = _picture.Grid(0, size)
    grid.add([extent(0, size // 3 // 512 * 512, 1), extent(size // 3 // 512 * 512, size)])
    assert len(grid.bytes[0]) <= _picture.COLUMNS * _picture.MOST_ROWS
    height = float(drawn("x", grid).attrib["height"])
    assert height < 700


def test_squares_that_are_the_same_are_one_rectangle_and_little_can_be_seen() -> None:
    grid = _picture.Grid(0, 64 * 4096)
    grid.add([extent(0, 64 * 4096 - 512, 1), extent(64 * 4096 - 512, 512)])
    bars = [rect for rect in drawn("x", grid).iter(f"{SVG}rect") if float(rect.attrib["y"]) >= _picture.TOP]
    assert [bar.attrib["class"] for bar in bars] == ["base", "local", "base"]
    assert float(bars[0].attrib["width"]) == 63 * 11 - 1
    assert float(bars[1].attrib["width"]) > 1


def test_names_are_text_and_nothing_else() -> None:
    name = 'a<script>&"\x1b\udcff'
    root = drawn(name, _picture.Grid(0, MIB))
    assert root.find(f"{SVG}title").text == 'a<script>&"\\x1b?'  # type: ignore[union-attr]
    assert root.find(f".//{SVG}script") is None


def test_the_command_draws_an_overlay_and_its_profile(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", 4 * MIB, seed=1)
    image = tmp_path / "vm.fvd"
    options: fvd.types.ImageOptions = {"generate_prefetch_profile": True}
    fvd.create(image, backing_file="base.raw", backing_format="raw", options=options)
    with fvd.open(image, "r+") as disk:
        disk.pread(4096, 0)
        disk.pwrite(b"x" * MIB, 2 * MIB)
    root = ET.fromstring(run(FVD, "map", "--output=svg", image).stdout)
    texts = "\n".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert "in this image: 1 MiB (25.0%)" in texts
    assert "a square is 4 KiB; dots" in texts
    assert len(list(root.iter(f"{SVG}circle"))) >= 1
    page = run(FVD, "map", "--output=html", image).stdout
    assert page.startswith(b"<!doctype html>")
    assert b"Extents" not in page
    said = run(FVD, "map", "--output=png", image, ok=[1]).stderr
    assert b"--output expects human, json, svg, html, not 'png'" in said
