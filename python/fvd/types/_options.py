"""Options of new images, and attributes that can be changed later."""

from typing import TypedDict

from fvd.types._arguments import StrPath, StrSize, Switch

OptionValue = str | int | bool
"""The value of an option, parsed: a word or a file name, a size or a number, on or off.

```pycon
>>> from fvd.options import parse_options
>>> parse_options(["copy_on_read,block_size=4K,data_file=x.raw"], "fvd")
{'copy_on_read': True, 'block_size': 4096, 'data_file': 'x.raw'}
```
"""


class ImageOptions(TypedDict, total=False):
    """The options of a new image: those of `fvd create -o help`, with their units, ranges and defaults.

    Sizes are in bytes, the times of `prefetch_start_delay` and `profile_directed_prefetch_start_delay` in
    seconds. `size`, `backing_file` and `backing_fmt` are arguments of `create` and `convert` instead.

    ```pycon
    >>> options: ImageOptions = {"copy_on_read": True, "block_size": "64K"}
    >>> made = fvd.create("o.fvd", backing_file="base.raw", backing_format="raw", options=options)
    >>> made["options"]["block_size"]
    65536
    ```
    """

    add_storage_cmd: str
    block_size: StrSize
    chunk_size: StrSize
    compact_image: Switch
    copy_on_read: Switch
    data_file: StrPath
    data_file_fmt: str
    detect_sparse_hole: StrSize
    generate_prefetch_profile: Switch
    journal_size: StrSize
    prefetch_profile_size: StrSize
    prefetch_start_delay: StrSize
    profile_directed_prefetch_start_delay: StrSize
    storage_grow_unit: StrSize
    write_updates_base_img: str


class Attributes(TypedDict, total=False):
    """The attributes of an image that can be changed: those of `fvd amend -o help`, under all their names.

    That list has their units, ranges and defaults. Sizes are in bytes, throughputs in KiB/s, start delays in
    seconds, other times in milliseconds.

    ```pycon
    >>> changes: Attributes = {"copy_on_read": True, "prefetch_start_delay": 60}
    >>> fvd.amend("overlay.fvd", **changes)
    >>> fvd.info("overlay.fvd")["format-specific"]["data"]["prefetch-start-delay"]
    60
    ```
    """

    size: StrSize
    virtual_disk_size: StrSize
    base_img: StrPath
    backing_file: StrPath
    base_img_fmt: str
    backing_pin: str
    backing_fmt: str
    data_file: StrPath
    data_file_fmt: str
    clean_shutdown: Switch
    need_zero_init: Switch
    storage_grow_unit: StrSize
    copy_on_read: Switch
    max_outstanding_copy_on_read_data: StrSize
    write_updates_base_img: str
    prefetch_start_delay: StrSize
    num_prefetch_slots: StrSize
    max_num_outstanding_prefetch_writes: StrSize
    bytes_per_prefetch: StrSize
    prefetch_min_read_throughput: StrSize
    prefetch_min_read_throughput_threshold: StrSize
    prefetch_min_write_throughput: StrSize
    prefetch_min_write_throughput_threshold: StrSize
    prefetch_max_read_throughput: StrSize
    prefetch_max_read_throughput_threshold: StrSize
    prefetch_max_write_throughput: StrSize
    prefetch_max_write_throughput_threshold: StrSize
    prefetch_perf_calc_alpha: StrSize
    prefetch_read_throughput_measure_time: StrSize
    prefetch_write_throughput_measure_time: StrSize
    prefetch_throttle_time: StrSize
    prefetch_over_threshold_throttle_time: StrSize
    generate_prefetch_profile: Switch
    profile_directed_prefetch_start_delay: StrSize
