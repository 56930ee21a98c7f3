"""A raw disk with any content, converted to FVD and back, is the same again. qemu-img reads the result."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import fvd
from fvd.types import ImageOptions
from support import run

SECTOR = 512
OPTIONS: st.SearchStrategy[dict[str, int | bool]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"compact_image": st.just(True), "chunk_size": st.integers(1, 20).map(lambda pages: pages * 4096)}
    ),
)
# A disk as runs of equal bytes: zeros (holes or written), one byte, or a pattern.
RUNS = st.lists(
    st.tuples(st.integers(1, 200), st.sampled_from([b"\0", b"\xff", b"fvd!", b"\0\0\0\1"])),
    min_size=1,
    max_size=12,
)


@given(runs=RUNS, options=OPTIONS, tail=st.integers(0, SECTOR - 1))
def test_raw_to_fvd_to_raw(runs: list[tuple[int, bytes]], options: ImageOptions, tail: int) -> None:
    content = b"".join((pattern * SECTOR)[:SECTOR] * count for count, pattern in runs) + b"t" * tail
    with tempfile.TemporaryDirectory(prefix="fvd-convert-") as name:
        folder = Path(name)
        source, image, back = folder / "source.raw", folder / "image.fvd", folder / "back.raw"
        source.write_bytes(content)
        fvd.convert(source, image, source_format="raw", target_format="fvd", options=options)
        assert fvd.check(image)["corruptions"] == 0
        fvd.convert(image, back, target_format="raw")
        read = back.read_bytes()
        assert read[: len(content)] == content
        # A virtual disk consists of whole sectors. The last one is padded with zeros.
        assert len(read) == -(-len(content) // SECTOR) * SECTOR
        assert not any(read[len(content) :])
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, back)
        assert fvd.compare(source, image, a_format="raw")["identical"]
