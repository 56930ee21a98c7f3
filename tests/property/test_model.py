"""Random operations on an image, compared with a bytearray, for every geometry and cache mode.

FVD_HYPOTHESIS=long runs many more. A failure prints the steps, and a line that repeats them.
"""

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import fvd
from fvd.types import ImageOptions
from support import CACHE_MODES, KIB, MIB, CacheMode, run
from support.disks import sha256_file


@dataclass(frozen=True)
class Geometry:
    """How an image is created, and its base."""

    size: int
    options: ImageOptions = field(default_factory=lambda: ImageOptions())
    base_size: int | None = None
    base_format: Literal["raw", "qcow2", "fvd"] = "raw"


GEOMETRIES = {
    "plain": Geometry(512 * KIB),
    "plain_with_data_file": Geometry(512 * KIB, {"data_file": "data.raw", "data_file_fmt": "raw"}),
    "compact": Geometry(
        512 * KIB, {"compact_image": True, "chunk_size": 16 * KIB, "storage_grow_unit": 64 * KIB}
    ),
    "compact_odd_chunk": Geometry(
        300 * KIB + 512,
        {"compact_image": True, "chunk_size": 12 * KIB, "storage_grow_unit": 12 * KIB, "journal_size": 4096},
    ),
    "compact_no_journal": Geometry(
        256 * KIB,
        {"compact_image": True, "chunk_size": 4 * KIB, "storage_grow_unit": 8 * KIB, "journal_size": -1},
    ),
    "compact_data_file": Geometry(
        512 * KIB,
        {
            "compact_image": True,
            "chunk_size": 8 * KIB,
            "storage_grow_unit": 8 * KIB,
            "data_file": "data.raw",
            "data_file_fmt": "raw",
        },
    ),
    "base_smaller": Geometry(512 * KIB, {"block_size": 4 * KIB}, base_size=200 * KIB + 512),
    "base_equal": Geometry(384 * KIB, {"block_size": 512, "journal_size": 4096}, base_size=384 * KIB),
    "base_larger": Geometry(256 * KIB, {"block_size": 64 * KIB}, base_size=400 * KIB),
    "base_odd_length": Geometry(256 * KIB, {"block_size": 4 * KIB}, base_size=100_001),
    "base_default_block": Geometry(256 * KIB, base_size=256 * KIB),
    "odd_block": Geometry(512 * KIB, {"block_size": 7680, "journal_size": 4096}, base_size=300 * KIB),
    "odd_block_no_journal": Geometry(
        256 * KIB, {"block_size": 1536, "journal_size": -1}, base_size=200 * KIB
    ),
    "sparse_holes": Geometry(
        512 * KIB, {"block_size": 4 * KIB, "detect_sparse_hole": 8 * KIB}, base_size=400 * KIB
    ),
    # Blocks that cross the boundary of two chunks, in both proportions.
    "block_straddles_chunks": Geometry(
        512 * KIB,
        {
            "block_size": 7680,
            "compact_image": True,
            "chunk_size": 16 * KIB,
            "storage_grow_unit": 16 * KIB,
            "journal_size": 8192,
        },
        base_size=333 * KIB,
    ),
    "block_larger_than_chunk": Geometry(
        512 * KIB,
        {
            "block_size": 40 * KIB + 512,
            "compact_image": True,
            "chunk_size": 4 * KIB,
            "storage_grow_unit": 4 * KIB,
            "journal_size": 4096,
        },
        base_size=444 * KIB,
    ),
    "base_compact_data_file": Geometry(
        512 * KIB,
        {
            "block_size": 512,
            "compact_image": True,
            "chunk_size": 64 * KIB,
            "storage_grow_unit": 64 * KIB,
            "data_file": "data.raw",
            "data_file_fmt": "raw",
        },
        base_size=300 * KIB,
    ),
    "qcow2_base": Geometry(512 * KIB, {"block_size": 4 * KIB}, base_size=320 * KIB, base_format="qcow2"),
    "fvd_base": Geometry(512 * KIB, {"block_size": 4 * KIB}, base_size=320 * KIB, base_format="fvd"),
}


def make_base(folder: Path, geometry: Geometry, seed: int) -> tuple[Path, bytes]:
    """A base with random data, never only zeros, and a few holes; and its content."""
    assert geometry.base_size is not None
    rng = random.Random(seed)
    content = bytearray(rng.randbytes(geometry.base_size))
    for _ in range(3):
        offset = rng.randrange(geometry.base_size) // (8 * KIB) * (8 * KIB)
        end = min(offset + 24 * KIB, geometry.base_size)
        content[offset:end] = bytes(end - offset)
    raw = folder / "base.raw"
    raw.write_bytes(content)
    if geometry.base_format == "raw":
        return raw, bytes(content)
    base = folder / f"base.{geometry.base_format}"
    if geometry.base_format == "qcow2":
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base)
    else:
        fvd.convert(raw, base, source_format="raw", target_format="fvd", options={"compact_image": True})
    raw.unlink()
    return base, bytes(content)


class ImageMachine(RuleBasedStateMachine):
    """An open image, and the bytes that it must read as."""

    geometry: ClassVar[Geometry]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fvd-model-"))
        self.path = self.folder / "image.fvd"
        self.image: fvd.Image | None = None
        self.base: tuple[Path, str] | None = None

    @initialize(cache=st.sampled_from(CACHE_MODES), seed=st.integers(0, 2**32 - 1))
    def create(self, cache: CacheMode, seed: int) -> None:
        self.model = bytearray(self.geometry.size)
        if self.geometry.base_size is None:
            fvd.create(self.path, self.geometry.size, options=self.geometry.options)
        else:
            base, content = make_base(self.folder, self.geometry, seed)
            self.base = base, sha256_file(base)
            shown = content[: self.geometry.size]
            self.model[: len(shown)] = shown
            fvd.create(
                self.path,
                self.geometry.size,
                backing_file=base.name,
                backing_format=self.geometry.base_format,
                options=self.geometry.options,
            )
        self.image = fvd.open(self.path, "r+", cache=cache)

    @property
    def opened(self) -> fvd.Image:
        assert self.image is not None
        return self.image

    @rule(
        data=st.data(),
        length=st.one_of(
            st.integers(1, 3000),
            st.sampled_from([512, 4 * KIB, 7680, 16 * KIB, 64 * KIB, 130 * KIB]),
        ),
        seed=st.integers(0, 2**32 - 1),
    )
    def pwrite(self, data: st.DataObject, length: int, seed: int) -> None:
        offset = data.draw(self.offsets(length), label="offset")
        content = random.Random(seed).randbytes(length)
        assert self.opened.pwrite(content, offset) == length
        self.model[offset : offset + length] = content

    @rule(data=st.data(), length=st.integers(1, 100 * KIB))
    def zero(self, data: st.DataObject, length: int) -> None:
        offset = data.draw(self.offsets(length), label="offset")
        self.opened.zero(length, offset)
        self.model[offset : offset + length] = bytes(length)

    @rule(data=st.data(), length=st.integers(0, 100 * KIB))
    def pread(self, data: st.DataObject, length: int) -> None:
        offset = data.draw(self.offsets(length), label="offset")
        assert self.opened.pread(length, offset) == self.model[offset : offset + length]

    @rule(data=st.data(), length=st.integers(1, 40 * KIB))
    def readinto(self, data: st.DataObject, length: int) -> None:
        offset = data.draw(self.offsets(length), label="offset")
        buffer = bytearray(b"\xee" * (length + 2))
        assert self.opened.readinto(memoryview(buffer)[1:-1], offset) == length
        assert buffer == b"\xee" + self.model[offset : offset + length] + b"\xee"

    @rule(over=st.integers(1, 10_000), length=st.integers(1, 5000))
    def beyond_the_end_is_refused(self, over: int, length: int) -> None:
        offset = max(self.geometry.size - length, 0) + over
        with pytest.raises(ValueError, match=r"."):
            self.opened.pwrite(bytes(length), offset)
        with pytest.raises(ValueError, match=r"."):
            self.opened.zero(length, offset)

    @rule()
    def flush(self) -> None:
        self.opened.flush()

    @rule(cache=st.sampled_from(CACHE_MODES))
    def close_and_reopen(self, cache: CacheMode) -> None:
        self.opened.close()
        result = fvd.check(self.path)
        assert result["corruptions"] == 0
        self.image = fvd.open(self.path, "r+", cache=cache)

    @rule(cache=st.sampled_from(CACHE_MODES))
    @precondition(lambda self: self.geometry.options.get("journal_size") != -1)
    def killed_after_a_flush(self, cache: CacheMode) -> None:
        """The files after a flush, without a close, recover to the same disk."""
        self.opened.flush()
        copy = self.folder / "killed"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, copy / path.name)
        with fvd.open(copy / self.path.name) as image:
            assert image.pread(image.size, 0) == self.model
        with fvd.open(copy / self.path.name, "r+", cache=cache) as image:
            assert image.pread(image.size, 0) == self.model
        assert fvd.check(copy / self.path.name)["corruptions"] == 0

    @rule()
    def extents_cover_the_disk(self) -> None:
        position = 0
        for extent in self.opened.extents():
            assert extent["start"] == position
            position += extent["length"]
            if extent["zero"]:
                assert not any(self.model[extent["start"] : position])
        assert position == self.geometry.size

    @invariant()
    def size_stays(self) -> None:
        if self.image is not None:
            assert self.image.size == self.geometry.size

    def offsets(self, length: int) -> st.SearchStrategy[int]:
        """Any offset, often one at a boundary."""
        last = self.geometry.size - length
        assume(last >= 0)
        units = {512, 4 * KIB, MIB}
        units |= {value for value in self.geometry.options.values() if type(value) is int and value >= 512}
        if self.geometry.base_size is not None:
            units.add(self.geometry.base_size)
        edges = [
            edge
            for unit in sorted(units)
            for multiple in range(1, 4)
            for edge in (unit * multiple - length, unit * multiple - 1, unit * multiple)
            if 0 <= edge <= last
        ]
        return st.one_of(st.integers(0, last), st.sampled_from([0, last, *edges]))

    def teardown(self) -> None:
        try:
            if self.image is not None:
                assert self.image.pread(self.image.size, 0) == self.model
                self.image.close()
                assert fvd.check(self.path)["corruptions"] == 0
                with fvd.open(self.path) as image:
                    assert image.pread(image.size, 0) == self.model
            if self.base is not None:
                path, sha = self.base
                assert sha256_file(path) == sha, "the base was changed"
        finally:
            if self.image is not None:
                self.image.close()
            shutil.rmtree(self.folder)


# One test for each geometry, so that each gets its share of the examples and a failure names its geometry.
for _name, _geometry in GEOMETRIES.items():
    _machine: type[ImageMachine] = type(f"Machine_{_name}", (ImageMachine,), {"geometry": _geometry})
    globals()[f"Test_{_name}"] = _machine.TestCase
