"""A reader of FVD headers. It shares no code with the package, so that both do not have the same bug."""

import struct
from pathlib import Path
from typing import BinaryIO

REGION = 8192
FIELDS_END = 4336
CLEAN_SHUTDOWN = slice(4300, 4304)
UNALLOCATED = 0xFFFFFFFF
REDO = 4608
FENCE_OFFSET = 4284
FENCE = b"REDO".ljust(20, b"\0")

# name: (offset, struct format); s: a NUL-padded string
FIELDS: dict[str, tuple[int, str]] = {
    "magic": (0, "<I"),
    "version": (4, "<I"),
    "all_data_in_fvd_img": (8, "<i"),
    "virtual_disk_size": (12, "<q"),
    "metadata_size": (20, "<q"),
    "base_img": (28, "1024s"),
    "base_img_fmt": (1052, "16s"),
    "base_img_size": (1068, "<q"),
    "bitmap_offset": (1076, "<q"),
    "bitmap_size": (1084, "<q"),
    "block_size": (1092, "<i"),
    "copy_on_read": (1096, "<i"),
    "data_file": (1108, "1024s"),
    "compact_image": (2208, "<i"),
    "table_offset": (2212, "<q"),
    "chunk_size": (2220, "<q"),
    "journal_offset": (4284, "<q"),
    "journal_size": (4292, "<q"),
    "clean_shutdown": (4300, "<i"),
    "need_zero_init": (4304, "<i"),
}


def integer(region: bytes, name: str) -> int:
    offset, form = FIELDS[name]
    return int(struct.unpack_from(form, region, offset)[0])


def text(region: bytes, name: str) -> str:
    offset, form = FIELDS[name]
    raw: bytes = struct.unpack_from(form, region, offset)[0]
    return raw.split(b"\0", 1)[0].decode()


def read_region(path: Path) -> bytes:
    """The whole header region."""
    with path.open("rb") as file:
        region = file.read(REGION)
    assert len(region) == REGION, f"{path}: shorter than a header"
    return region


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`, padded with zeros after the end of the file."""
    file.seek(offset)
    return file.read(size).ljust(size, b"\0")


def bitmap(path: Path) -> bytes:
    """The bitmap as it is in the file, which may be out of date."""
    region = read_region(path)
    with path.open("rb") as file:
        return read_at(file, integer(region, "bitmap_offset"), integer(region, "bitmap_size"))


def bit(bits: bytes, block: int) -> bool:
    return bool(bits[block // 8] >> (block % 8) & 1)


def redo_copy(region: bytes, changes: dict[int, bytes]) -> bytes:
    """The redo copy of a change of header bytes, given by their offsets. It also removes the fence."""
    fields = bytearray(region[:FIELDS_END])
    patches = b""
    unfenced = {FENCE_OFFSET: region[FENCE_OFFSET : FENCE_OFFSET + len(FENCE)]}
    for offset, new in (changes | unfenced).items():
        fields[offset : offset + len(new)] = new
        patches += struct.pack("<HH", offset, len(new)) + new
    length = struct.pack("<I", len(patches))
    checksum = struct.pack("<I", crc32c(length + patches + bytes(fields)))
    return (b"RED2" + length + checksum + patches).ljust(REGION - REDO, b"\0")


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
