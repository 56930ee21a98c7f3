"""Truncated and modified images of the original driver: every command ends with a result or a readable
error.
"""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from fvd.cli.main import main
from support.corpus import Case, cases
from support.header import FIELDS, integer, read_region

SEED = 20_110_214
SMALL = [case for case in cases() if case.size <= 64 << 20]
STATUSES = {"check": (0, 1, 2, 3)}
COMMANDS = (
    ("info",),
    ("info", "--output=json"),
    ("check",),
    ("check", "--output=json"),
    ("map", "--output=json"),
    ("dump",),
    ("check", "-r", "leaks"),
    ("check", "-r", "all"),
    ("check",),
    ("amend", "-o", "size=96M,need_zero_init=on"),
    ("amend", "--shrink", "-o", "size=5M"),
    ("map",),
)


def boundaries(region: bytes) -> Iterator[int]:
    """Lengths around the end of everything that a header refers to."""
    edges = {0, 4, 8, 28, 1052, 4096, 4300, 4336, 8192}
    edges |= {integer(region, f"{name}_offset") for name in ("bitmap", "table", "journal")}
    edges.add(integer(region, "bitmap_offset") + integer(region, "bitmap_size"))
    edges.add(integer(region, "journal_offset") + integer(region, "journal_size"))
    edges.add(integer(region, "metadata_size"))
    for edge in sorted(edges):
        yield from (length for length in (edge - 1, edge, edge + 1, edge + 512) if length >= 0)


def orderly(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs every command on an image, and uses the image through the API."""
    for command in COMMANDS:
        status = main(
            [command[0], "-f", "fvd", *command[1:], str(image)]
            if command[0] != "dump"
            else [*command, str(image)]
        )
        out, err = capsys.readouterr()
        context = f"{command}: {status} {err}"
        assert status in STATUSES.get(command[0], (0, 1)), context
        assert "Traceback" not in err, context
        assert "internal error" not in err, context
        if status == 1 and not (command[0] == "check" and out):
            assert err.startswith("fvd: "), context
            assert err.count("\n") == 1, context
    try:
        use(image)
    except fvd.FvdError as refusal:
        error = refusal
    else:
        return
    assert error.strerror
    assert error.errno


def use(image: Path) -> None:
    """Reads and writes both ends of the disk."""
    with fvd.open(image, "r+") as disk:
        count = min(disk.size, 65536)
        for offset in (0, disk.size - count):
            disk.pread(count, offset)
            disk.pwrite(b"\xa5" * count, offset)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_truncated_image_is_refused_or_read(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = case.unpack(tmp_path / "original")
    whole = original.read_bytes()
    for length in dict.fromkeys(boundaries(read_region(original))):
        original.write_bytes(whole[:length])
        orderly(original, capsys)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_an_image_with_changed_bytes_is_refused_or_read(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = case.unpack(tmp_path / "image")
    whole = image.read_bytes()
    rng = random.Random(f"{SEED} {case}")
    for _ in range(25):
        image.write_bytes(changed(rng, whole))
        orderly(image, capsys)


def changed(rng: random.Random, whole: bytes) -> bytes:
    """The image with one to four changes, mostly in important places."""
    broken = bytearray(whole)
    names = [name for name, (_, form) in FIELDS.items() if not form.endswith("s")]
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.6:
            offset, form = FIELDS[rng.choice(names)]
            size = struct.calcsize(form)
            value = rng.choice([0, 1, -1, 512, 4096, 1 << 31, 1 << 40, 1 << 62, rng.getrandbits(63)])
            broken[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        else:
            broken[rng.randrange(min(len(broken), 256 << 10))] = rng.getrandbits(8)
    return bytes(broken)
