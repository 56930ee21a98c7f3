"""Reads of clients that accept structured replies: zeros are described, not sent."""

import json
from pathlib import Path

import fvd
from support import KIB, MIB, run
from support.serving import Server

CLIENT = Path(__file__).parent / "libnbd_reader.py"


def pieces(uri: str, offset: int, length: int, *flags: str) -> list[tuple[str, int, int]]:
    """The parts of the answer to one read: kind, and offset and length in KiB."""
    said = json.loads(run("/usr/bin/python3", CLIENT, uri, str(offset), str(length), *flags).stdout)
    return [(kind, offset // KIB, length // KIB) for kind, offset, length in said]


def test_holes_of_an_image_its_base_and_a_raw_disk_are_sent(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    with base.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"\7" * MIB)
    overlay = tmp_path / "overlay.fvd"
    fvd.create(
        overlay, 8 * MIB, backing_file="base.raw", backing_format="raw", options={"compact_image": True}
    )
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"\7" * 64 * KIB, 6 * MIB)
        image.zero(512 * KIB, MIB)
    holes = [("hole", 0, 1536), ("hole", 2048, 4096), ("hole", 6208, 1984)]
    expected = sorted([*holes, ("data", 1536, 512), ("data", 6144, 64)], key=lambda piece: piece[1])
    with Server(overlay) as server:
        assert pieces(server.uri, 0, 8 * MIB) == expected
        assert pieces(server.uri, 0, 4 * KIB) == [("hole", 0, 4)]
        assert pieces(server.uri, 0, 64 * KIB, "df") == [("data", 0, 64)]
    flat = tmp_path / "flat.raw"
    fvd.convert(overlay, flat)
    with Server(flat, "-f", "raw") as server:
        assert pieces(server.uri, 0, 8 * MIB) == expected
