"""The metadata on disk."""

from typing import Any, Literal, TypedDict


class TableRecord(TypedDict):
    """A journal record that sets table entries.

    ```pycon
    >>> record: TableRecord = {"type": "table", "first": 0, "entries": [0, None, 1]}
    ```
    """

    type: Literal["table"]
    first: int
    """Index of the first entry it sets."""
    entries: list[int | None]
    """Storage chunk numbers, without the dirty flag; None: not allocated."""


class BitmapRecord(TypedDict):
    """A journal record that marks sectors of the virtual disk as local. A sector has 512 bytes.

    ```pycon
    >>> record: BitmapRecord = {"type": "bitmap", "first_sector": 8, "sectors": 128}
    ```
    """

    type: Literal["bitmap"]
    first_sector: int
    sectors: int


class JournalSector(TypedDict):
    """One 512-byte sector of the journal, by its number in the journal.

    ```pycon
    >>> image = fvd.open("overlay.fvd", "r+")
    >>> image.pwrite(bytes(4096), 0)
    4096
    >>> image.flush()
    >>> fvd.dump("overlay.fvd", force_share=True)["journal"]
    [{'sector': 0, 'records': [{'type': 'bitmap', 'first_sector': 0, 'sectors': 8}]}]
    ```
    """

    sector: int
    records: list[TableRecord | BitmapRecord]


class Dump(TypedDict):
    """The metadata of an image as it is on disk, without recovery.

    ```pycon
    >>> dump = fvd.dump("disk.fvd")
    >>> dump["header"]["virtual_disk_size"], dump["table"], dump["truncated"]
    (67108864, None, [])
    ```
    """

    filename: str
    header: dict[str, Any]
    """Every field by its name, in the order on disk. Strings without their padding."""
    table: list[tuple[int, int, int]] | None
    """Runs of allocated entries: first chunk, count, first storage chunk. None: not compact."""
    bitmap: list[tuple[int, int]] | None
    """Runs of local blocks: first block, count. None: no bitmap."""
    journal: list[JournalSector] | None
    """Sectors that hold a record. None: no journal."""
    profile: list[tuple[int, int]] | None
    """Prefetch profile: offset in bytes, length in units. None: no room for one."""
    truncated: list[str]
    """Which of `table`, `bitmap`, `journal` and `profile` were cut at the limit."""
