"""`fvd.measure`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._create import core_options
from fvd._disks import name_of, of_core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict, cast

    from fvd._disks import Disk
    from fvd._remote import Remote
    from fvd.types import Format, ImageOptions, MeasuredFormat, MeasureResult, Qcow2Options, StrPath

    class _Opening(TypedDict):
        source_format: Format | None
        force_share: bool
        trust: Sequence[StrPath]
        cache_dir: StrPath | None
        remote: Remote | None

else:

    def cast(kind, value):
        """Return `value`. Importing `typing` would take too long."""
        return value


SECTOR = 512


def measure(
    source: Disk | None = None,
    *,
    size: int | str | None = None,
    source_format: Format | None = None,
    format: MeasuredFormat = "raw",
    options: ImageOptions | Qcow2Options | None = None,
    backing_file: StrPath | None = None,
    backing_format: Format | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
) -> MeasureResult:
    """Calculate how large a new image can become. Makes no file, and reads no data.

    The new image is either a copy of `source`, as `convert` makes it, or an empty disk of `size` bytes, as
    `create` makes it; `size` can be a string such as `"20G"`. `format`, `options` and `backing_file` are
    those of the new image; `qcow2` can be measured, too, with `fvd.types.Qcow2Options`. A data file (the
    option `data_file`) is counted together with the image.

    The result is what a device or a file without holes needs. `required` counts the data of the source in
    whole chunks (fvd with `compact_image`) or clusters (qcow2). Data that consists of zeros counts, because
    nothing is read; so a copy can be smaller, and is never larger. In a raw disk and in an fvd image that is
    not compact everything has its fixed place, so that `required` is the same as `fully-allocated`. In files
    they take less, because they have holes.

    Raises `ValueError` unless exactly one of `source` and `size` is given, and for invalid options;
    `NotPermittedError` and `IoError` as `convert`.

    ```pycon
    >>> fvd.measure("disk.fvd", format="fvd", options={"compact_image": True})
    {'required': 16789504, 'fully-allocated': 83898368}
    >>> fvd.measure(size="20G")
    {'required': 21474836480, 'fully-allocated': 21474836480}
    ```
    """
    if (source is None) == (size is None):
        raise ValueError("Either a source or a size must be given, and not both")
    opening: _Opening = {
        "source_format": source_format,
        "force_share": force_share,
        "trust": trust,
        "cache_dir": cache_dir,
        "remote": remote,
    }
    measured = _Disk(None if source is None else of_core(source), _size(size), opening)
    if format == "qcow2":
        from fvd import _qcow2_size

        layout = _qcow2_size.layout(measured.size(), cast("Qcow2Options | None", options))
        return _result(layout.metadata, measured.data(layout.cluster), layout.data, layout.is_allocated)
    if format == "raw":
        core_options(cast("ImageOptions | None", options), format)
        whole = _up(measured.size(), SECTOR)
        return _result(0, whole, whole)
    if format != "fvd":
        raise ValueError(f"Unknown file format '{format}': fvd, raw and qcow2 can be measured")
    planned = _core.plan(
        measured.size(),
        backing_file=name_of(backing_file),
        backing_format=backing_format,
        options=core_options(cast("ImageOptions | None", options), format),
        trust=trust,
        remote=remote,
    )
    chunk = planned["chunk_size"]
    whole = _up(planned["size"], chunk) if chunk else planned["size"]
    return _result(planned["metadata_size"], measured.data(chunk) if chunk else whole, whole)


class _Disk:
    """What is measured: a source, or without one an empty disk of a size."""

    def __init__(self, source: object, size: int | None, opening: _Opening) -> None:
        self._source = source
        self._size = size
        self._opening = opening

    def size(self) -> int:
        """Return the size of the disk in bytes."""
        if self._size is None:
            self._size, _ = _core.units_with_data(self._source, **self._opening)  # type: ignore[arg-type]
        return self._size

    def data(self, unit: int) -> int:
        """Return how many bytes all units of `unit` bytes have that hold data."""
        if self._source is None:
            return 0
        _, units = _core.units_with_data(self._source, unit, **self._opening)  # type: ignore[arg-type]
        return units * unit


def _result(metadata: int, data: int, whole: int, is_allocated: bool = False) -> MeasureResult:
    """Return the sizes of an image with `data` bytes of the `whole` disk, or with all of them at once."""
    full = metadata + whole
    return {"required": full if is_allocated else metadata + data, "fully-allocated": full}


def _size(size: int | str | None) -> int | None:
    """Return the size in bytes. The formats that the core does not know need the check, too."""
    if size is None:
        return None
    from fvd.options import MAX_SIZE, size_argument

    if isinstance(size, str):
        return size_argument("image size", size)
    if not hasattr(size, "__index__"):
        raise TypeError(f"size must be an integer or a string, not {type(size).__name__}")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"size must be between 0 and {MAX_SIZE}, not {size}")
    return size


def _up(value: int, unit: int) -> int:
    """Return `value`, rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit
