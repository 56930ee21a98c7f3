"""Results that would be huge are returned piece by piece, or truncated."""

import itertools
import resource
from pathlib import Path

import fvd

MIB = 1 << 20
BASE = 1 << 40


def striped(path: Path) -> Path:
    """An overlay with 32 million blocks, of which every second one is local."""
    with (path.parent / "base.raw").open("wb") as file:
        file.truncate(BASE)
    fvd.create(path, backing_file="base.raw", backing_format="raw")
    header = fvd.dump(path)["header"]
    with path.open("r+b") as file:
        file.seek(header["bitmap_offset"])
        file.write(b"\xaa" * header["bitmap_size"])
    return path


def test_a_map_of_millions_of_extents_is_lazy(tmp_path: Path) -> None:
    path = striped(tmp_path / "overlay.fvd")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extents = fvd.map(path)
    first = list(itertools.islice(extents, 4))
    assert [extent["depth"] for extent in first] == [1, 0, 1, 0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_dump_is_truncated_at_its_limit_and_says_so(tmp_path: Path) -> None:
    path = striped(tmp_path / "overlay.fvd")
    dump = fvd.dump(path, limit=1000)
    assert dump["truncated"] == ["bitmap"]
    assert dump["bitmap"] is not None
    assert dump["bitmap"][:2] == [(1, 1), (3, 1)]
    assert len(dump["bitmap"]) == 1000
    fvd.create(tmp_path / "small.fvd", MIB, options={"compact_image": True})
    assert fvd.dump(tmp_path / "small.fvd")["truncated"] == []
