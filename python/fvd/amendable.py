"""What can be changed in an image that exists, under the names of its header and all others they go by."""

from __future__ import annotations

from fvd.options import FVD_OPTIONS, SIZE_OPTION, Option, OptionError, normalise_known, parse_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fvd.types import OptionValue

AMENDABLE = (
    SIZE_OPTION,
    Option("base_img", "str", "File name of the base image; the new one must have the same content"),
    Option("base_img_fmt", "str", "Image format of the base image (fvd, raw, qcow2)"),
    Option("data_file", "str", "File name of the separate data file, after it was moved"),
    Option("data_file_fmt", "str", "Image format of the data file (raw)"),
    Option("clean_shutdown", "switch", "On: recover the image; off: have the next open recover it"),
    Option("need_zero_init", "switch", "Storage that was never written must be made to read as zeros"),
    Option("storage_grow_unit", "size", "Step in which a compact image's storage grows"),
    Option("copy_on_read", "switch", "Keep what is read from the base image"),
    Option("max_outstanding_copy_on_read_data", "size", "Bytes waiting to be kept above which that pauses"),
    Option("write_updates_base_img", "str", "no, writethrough, writeback or writenocache"),
    Option("prefetch_start_delay", "number", "Seconds until the base image is copied; 0 or negative: never"),
    Option("num_prefetch_slots", "number", "Prefetch writes that may be outstanding"),
    Option("bytes_per_prefetch", "size", "Bytes of one prefetch, rounded up to whole blocks"),
    Option("prefetch_min_read_throughput", "number", "KiB/s of reads below which prefetch may pause"),
    Option("prefetch_min_write_throughput", "number", "KiB/s of writes below which prefetch may pause"),
    Option("prefetch_max_read_throughput", "number", "KiB/s of reads that prefetch may not exceed"),
    Option("prefetch_max_write_throughput", "number", "KiB/s of writes that prefetch may not exceed"),
    Option("prefetch_perf_calc_alpha", "number", "Weight of the old throughput average, in percent"),
    Option("prefetch_read_throughput_measure_time", "number", "ms over which reads are measured"),
    Option("prefetch_write_throughput_measure_time", "number", "ms over which writes are measured"),
    Option("prefetch_throttle_time", "number", "ms of the longest pause"),
    Option("generate_prefetch_profile", "switch", "Record what is read first"),
    Option("profile_directed_prefetch_start_delay", "number", "Seconds until the profile is used; -1: never"),
)
"""Every attribute, under its name in the header."""

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
"""Names of `fvd create` and of the original driver's `update`."""

_FIXED = {option.name for option in FVD_OPTIONS} - {option.name for option in AMENDABLE} - set(ALIASES)


def parse_attributes(texts: Sequence[str]) -> dict[str, OptionValue]:
    """Return the changes that `-o` strings ask for, by the names of the header.

    Raises OptionError at the first that is unknown, fixed or wrong.
    """
    return _in_header_terms(parse_known(texts, _known()))


def normalise_attributes(attributes: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return `attributes` by the names of the header, strings read as on a command line.

    Raises OptionError for one that is unknown or fixed, or a value of the wrong type.
    """
    for name in _FIXED.intersection(attributes):
        raise _fixed(name)
    return _in_header_terms(normalise_known(attributes, _known()))


def is_attribute(name: str) -> bool:
    """Tell whether an image that exists has something of that name which can be changed."""
    return name in ALIASES or any(option.name == name for option in AMENDABLE)


def attributes_help() -> str:
    """Return the answer to `-o help`."""
    return "\n".join(["Amend options for 'fvd':", *(option.help() for option in AMENDABLE)]) + "\n"


class _Fixed(Option):
    """An option of creation that cannot be changed later."""

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
