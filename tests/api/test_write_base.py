"""Images that are caches and write to their base."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Unpack

import pytest

import fvd
from fvd.types import ImageOptions

MIB = 1 << 20
MODES = ["writethrough", "writeback", "writenocache"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(os.urandom(MIB + 100))
    return path


def make(base: Path, mode: str, **options: Unpack[ImageOptions]) -> Path:
    path = base.with_name("cache.fvd")
    options["write_updates_base_img"] = mode
    made = fvd.create(path, 2 * MIB, backing_file=base.name, backing_format="raw", options=options)
    assert made["options"]["write_updates_base_img"] == mode
    return path


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_writes_are_in_the_base_after_a_close(base: Path, mode: str, compact: bool) -> None:
    path = make(base, mode, compact_image=compact)
    model = bytearray(base.read_bytes())
    model += bytes(2 * MIB - len(model))
    with fvd.open(path, "r+", write_base=True) as image:
        for offset in (0, 777, 300_000, MIB - 5, 2 * MIB - 10_000):
            data = os.urandom(10_000)
            image.pwrite(data, offset)
            model[offset : offset + len(data)] = data
        image.zero(100_000, 500_000)
        model[500_000:600_000] = bytes(100_000)
        assert image.pread(2 * MIB, 0) == model
    inside = (MIB + 100 + 511) // 512 * 512
    assert base.read_bytes() == model[:inside]
    with fvd.open(path) as image:
        assert image.pread(2 * MIB, 0) == model


@pytest.mark.parametrize("mode", MODES)
def test_a_flush_survives_a_kill_and_a_close_updates_the_base(base: Path, mode: str) -> None:
    path = make(base, mode)
    program = (
        "import fvd, os, sys\n"
        "image = fvd.open(sys.argv[1], 'r+', write_base=True)\n"
        "image.pwrite(b'a' * 5000, 100)\n"
        "image.flush()\n"
        "image.pwrite(b'b' * 5000, 10_000)\n"
        "os._exit(1)\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program, path], check=False).returncode == 1
    assert base.read_bytes()[100:5100] == b"a" * 5000
    assert fvd.info(path)["dirty-flag"]
    # A repair does not read the base, and so must not mark the image clean.
    fvd.check(path, repair="all")
    assert fvd.info(path)["dirty-flag"]
    with fvd.open(path, "r+", write_base=True) as image:
        content = image.pread(MIB, 0)
        assert content[100:5100] == b"a" * 5000
    assert base.read_bytes()[:MIB] == content
    assert not fvd.info(path)["dirty-flag"]


def test_the_base_is_written_to_only_when_the_caller_allows_it(base: Path) -> None:
    path = make(base, "writethrough")
    before = base.read_bytes()
    with pytest.raises(fvd.NotPermittedError, match=r"base\.raw.*writethrough.*use write_base"):
        fvd.open(path, "r+")
    with fvd.open(path, write_base=True) as image:
        assert not image.writable
    assert base.read_bytes() == before


def test_info_tells_the_mode(base: Path) -> None:
    path = make(base, "writeback")
    assert fvd.info(path)["format-specific"]["data"]["write-updates-base-img"] == "writeback"


def test_an_fvd_image_can_be_the_base(base: Path) -> None:
    below = base.with_name("below.fvd")
    fvd.create(below, MIB, backing_file=base.name, backing_format="raw")
    path = base.with_name("cache.fvd")
    options: ImageOptions = {"write_updates_base_img": "writeback"}
    fvd.create(path, backing_file="below.fvd", backing_format="fvd", options=options)
    before = base.read_bytes()
    with fvd.open(path, "r+", write_base=True) as image:
        image.pwrite(b"deep", 12345)
    with fvd.open(below) as image:
        assert image.pread(4, 12345) == b"deep"
    assert not fvd.info(below)["dirty-flag"]
    assert base.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_updates_base_img": "always"}, "expects one of 'no', 'writethrough', .* not 'always'"),
        ({"write_updates_base_img": "writeback", "journal_size": -1}, "needs a journal"),
    ],
)
def test_create_refuses_impossible_options(base: Path, options: ImageOptions, message: str) -> None:
    path = base.with_name("cache.fvd")
    with pytest.raises(ValueError, match=message):
        fvd.create(path, backing_file=base.name, backing_format="raw", options=options)
    assert not path.exists()


def test_no_is_the_default_and_is_not_stored(base: Path) -> None:
    path = base.with_name("plain.fvd")
    made = fvd.create(path, backing_file=base.name, options={"write_updates_base_img": "no"})
    assert "write_updates_base_img" not in made["options"]
    assert fvd.dump(path)["header"]["write_updates_base_img"] == ""
    with fvd.open(path, "r+") as image:
        image.pwrite(b"x", 0)
