"""The attributes of an existing image that can be changed, under their names in the header and all other
names.

```pycon
>>> from fvd.amendable import parse_attributes
>>> parse_attributes(["size=80M,backing_file=moved.raw"])
{'size': 83886080, 'base_img': 'moved.raw'}
```
"""

from __future__ import annotations

from fvd.options import FVD_OPTIONS, SIZE_OPTION, Option, OptionError, normalise_known, parse_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fvd.types import OptionValue

_MIN_THROUGHPUT = "KiB/s, 0 to 2147483647; default: 5120"
_MAX_THROUGHPUT = "KiB/s, 1 to 2147483647; default: 1000000000, no limit in practice"
_MEASURE_TIME = "milliseconds, 1 to 2147483647; default: 100"

AMENDABLE = (
    SIZE_OPTION,
    Option("base_img", "file", "File name of the base image; the new one must have the same content"),
    Option(
        "base_img_fmt", "str", "Image format of the base image", "fvd, raw, qcow2 or nothing: to be found out"
    ),
    Option("data_file", "file", "File name of the separate data file, after it was moved"),
    Option("data_file_fmt", "str", "Image format of the data file", "raw"),
    Option("clean_shutdown", "switch", "On: recover the image; off: have the next open recover it"),
    Option(
        "need_zero_init",
        "switch",
        "Storage that was never written must be made to read as zeros",
        "default: off, on with detect_sparse_hole",
    ),
    Option(
        "storage_grow_unit",
        "size",
        "Step in which a compact image's storage grows; larger: less often",
        "bytes, from 1, at least chunk_size; default: 100M",
    ),
    Option("copy_on_read", "switch", "Keep what is read from the base image", "default: off"),
    Option(
        "max_outstanding_copy_on_read_data",
        "size",
        "Data waiting to be kept above which nothing more is kept for a while; above 64M as 64M",
        "bytes, 0 to 2^63 - 1; default: 2000000",
    ),
    Option(
        "write_updates_base_img",
        "str",
        "Write to the base image, too",
        "no, writethrough, writeback or writenocache; default: no",
    ),
    Option(
        "prefetch_start_delay",
        "number",
        "Time from opening for writing until all of the base image is copied",
        "seconds, -2147483648 to 2147483647; 0 or negative: never; default: -1",
    ),
    Option(
        "num_prefetch_slots",
        "number",
        "Pieces that prefetch works on at once; above 16 as 16. More hide the latency of a far base",
        "1 to 2147483647; default: 2",
    ),
    Option(
        "bytes_per_prefetch",
        "size",
        "What prefetch moves at once; above 4M as 4M. Larger: faster, and a guest waits longer behind it",
        "bytes, 1 to 2147483647, rounded up to whole blocks; default: 1048576",
    ),
    Option(
        "prefetch_min_read_throughput",
        "number",
        "Reads slower than this are a sign that others need the base: prefetch pauses",
        _MIN_THROUGHPUT,
    ),
    Option(
        "prefetch_min_write_throughput",
        "number",
        "Writes slower than this are a sign that others need the disk: prefetch pauses",
        _MIN_THROUGHPUT,
    ),
    Option(
        "prefetch_max_read_throughput", "number", "What reads of prefetch may not exceed", _MAX_THROUGHPUT
    ),
    Option(
        "prefetch_max_write_throughput", "number", "What writes of prefetch may not exceed", _MAX_THROUGHPUT
    ),
    Option(
        "prefetch_perf_calc_alpha",
        "number",
        "Weight of the old average of the throughput; larger: slower to notice others",
        "percent, 0 to 100; default: 80",
    ),
    Option(
        "prefetch_read_throughput_measure_time",
        "number",
        "Least time over which reads are measured",
        _MEASURE_TIME,
    ),
    Option(
        "prefetch_write_throughput_measure_time",
        "number",
        "Least time over which writes are measured",
        _MEASURE_TIME,
    ),
    Option(
        "prefetch_throttle_time",
        "number",
        "The longest of the random pauses that prefetch makes when others seem to need the base",
        "milliseconds, 0 to 2147483647; default: 30000",
    ),
    Option("generate_prefetch_profile", "switch", "Record what is read first", "default: off"),
    Option(
        "profile_directed_prefetch_start_delay",
        "number",
        "Time from opening for writing until what the profile names is copied",
        "seconds, -2147483648 to 2147483647; negative: never; default: -1",
    ),
)
"""Every attribute, under its name in the header.

```pycon
>>> [option.name for option in AMENDABLE if option.kind == "switch"]
['clean_shutdown', 'need_zero_init', 'copy_on_read', 'generate_prefetch_profile']
```
"""

ALIASES = {
    "backing_file": "base_img",
    "backing_fmt": "base_img_fmt",
    "max_num_outstanding_prefetch_writes": "num_prefetch_slots",
    "prefetch_min_read_throughput_threshold": "prefetch_min_read_throughput",
    "prefetch_min_write_throughput_threshold": "prefetch_min_write_throughput",
    "prefetch_max_read_throughput_threshold": "prefetch_max_read_throughput",
    "prefetch_max_write_throughput_threshold": "prefetch_max_write_throughput",
    "prefetch_over_threshold_throttle_time": "prefetch_throttle_time",
    "virtual_disk_size": "size",
}
"""Other names, from `fvd create` and from the original driver's `update`, with the names in the header.

```pycon
>>> ALIASES["backing_file"]
'base_img'
```
"""

_FIXED = {option.name for option in FVD_OPTIONS} - {option.name for option in AMENDABLE} - set(ALIASES)


def parse_attributes(texts: Sequence[str]) -> dict[str, OptionValue]:
    """Return the changes that the `-o` strings ask for, by the names in the header.

    Raises `OptionError` at the first one that is unknown, fixed or wrong.

    ```pycon
    >>> parse_attributes(["copy_on_read,prefetch_start_delay=60"])
    {'copy_on_read': True, 'prefetch_start_delay': 60}
    ```
    """
    return _in_header_terms(parse_known(texts, _known()))


def normalise_attributes(attributes: Mapping[str, object]) -> dict[str, OptionValue]:
    """Return `attributes` by the names in the header. String values are parsed as on the command line.

    Raises `OptionError` for one that is unknown or fixed, or that has a value of the wrong type.

    ```pycon
    >>> normalise_attributes({"virtual_disk_size": "1G", "copy_on_read": True})
    {'size': 1073741824, 'copy_on_read': True}
    ```
    """
    for name in _FIXED.intersection(attributes):
        raise _fixed(name)
    return _in_header_terms(normalise_known(attributes, _known()))


def is_attribute(name: str) -> bool:
    """Tell whether an existing image has an attribute of that name that can be changed.

    ```pycon
    >>> is_attribute("backing_file"), is_attribute("block_size")
    (True, False)
    ```
    """
    return name in ALIASES or any(option.name == name for option in AMENDABLE)


def attributes_help() -> str:
    """Return the answer to `-o help`.

    ```pycon
    >>> attributes_help().splitlines()[1]
    '  size=<size>            - Virtual disk size'
    ```
    """
    return "\n".join(["Amend options for 'fvd':", *(option.help() for option in AMENDABLE)]) + "\n"


def later_help() -> str:
    """Return the part of `create -o help` about options that are set once an image exists.

    ```pycon
    >>> later_help().splitlines()[1]
    "Set with 'fvd amend -o', once the image exists:"
    ```
    """
    at_creation = {ALIASES.get(option.name, option.name) for option in FVD_OPTIONS}
    later = [option.help() for option in AMENDABLE if option.name not in at_creation]
    return "\n".join(["", "Set with 'fvd amend -o', once the image exists:", *later]) + "\n"


class _Fixed(Option):
    """An option of `create` that cannot be changed later."""

    def parse(self, text: str) -> OptionValue:
        """Raise OptionError."""
        raise _fixed(self.name)


def _fixed(name: str) -> OptionError:
    return OptionError(
        f"Parameter '{name}' cannot be changed in an image that exists ('fvd convert' makes a new one)"
    )


def _known() -> dict[str, Option]:
    known = {option.name: option for option in AMENDABLE}
    for alias, name in ALIASES.items():
        option = known[name]
        known[alias] = Option(alias, option.kind, option.description)
    known.update((name, _Fixed(name, "str", "")) for name in _FIXED)
    return known


def _in_header_terms(values: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    return {ALIASES.get(name, name): value for name, value in values.items()}
