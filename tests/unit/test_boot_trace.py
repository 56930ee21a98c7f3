"""The trace of a boot, which benches/boot records and the model of fleets reads."""

from pathlib import Path

import pytest

from benches.boot import trace
from benches.boot.player import lasting
from benches.boot.trace import Read, Timed

LOG = """\
2026-11-30 20:00:00.000000 connection=1 Open export='' tls=0
2026-11-30 20:00:00.000100 connection=1 Read id=1 offset=0x0 count=0x1000 ...
2026-11-30 20:00:00.000300 connection=1 ...Read id=1 return=0
2026-11-30 20:00:00.000400 connection=1 Read id=2 offset=0x2000 count=0x200 ...
2026-11-30 20:00:00.000450 connection=2 Read id=2 offset=0x4000 count=0x400 ...
2026-11-30 20:00:00.000500 connection=2 ...Read id=2 return=0
2026-11-30 20:00:00.000600 connection=1 ...Read id=2 return=0
"""


def test_reads_under_way_together_follow_the_same_read() -> None:
    timed = trace.from_nbdkit(LOG.splitlines())
    assert timed == [Timed(0, 200, 0, 4096), Timed(300, 500, 8192, 512), Timed(350, 400, 16384, 1024)]
    assert trace.relative(timed) == [
        Read(0, 4096, None, 0),
        Read(8192, 512, 0, 100),
        Read(16384, 1024, 0, 150),
    ]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    reads = [Read(0, 4096, None, 5), Read(8192, 512, 0, 100), Read(512, 1024, 0, 0), Read(0, 512, 2, 7)]
    trace.write(tmp_path / "trace", reads, ["about"])
    assert trace.read(tmp_path / "trace") == reads


def test_a_read_after_one_that_comes_later_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("0 8 0 0\n0 8 2 0\n")
    with pytest.raises(ValueError, match="read 1 comes after read -1"):
        trace.read(tmp_path / "trace")


def test_a_faster_machine_thinks_less() -> None:
    reads = [Read(0, 512, None, 100), Read(0, 512, 0, 300), Read(0, 512, 0, 100)]
    assert [one.thinking_us for one in lasting(reads, 40e-6)] == [10, 30, 10]
