"""The fields of an FVD image as `fvd info` shows them to people."""

from __future__ import annotations

from fvd.cli._output import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULTS: dict[str, object] = {
    "max-outstanding-copy-on-read-data": 2_000_000,
    "prefetch-start-delay": -1,
    "need-zero-init": False,
    "suspect": False,
    "prefetch": {
        "slots": 2,
        "bytes": 1 << 20,
        "min-read-throughput": 5120,
        "min-write-throughput": 5120,
        "max-read-throughput": 1_000_000_000,
        "max-write-throughput": 1_000_000_000,
        "perf-calc-alpha": 80,
        "read-measure-time": 100,
        "write-measure-time": 100,
        "throttle-time": 30_000,
    },
}
"""What a new image has, and what says nothing of it: not shown."""

SIZES = frozenset(
    {
        "base-size",
        "block-size",
        "bytes",
        "chunk-size",
        "journal-size",
        "max-outstanding-copy-on-read-data",
        "metadata-size",
        "size",
        "storage-grow-unit",
        "table-size",
    }
)
"""Fields in bytes."""


def shown(fields: Mapping[str, object]) -> dict[str, object]:
    """Return what differs from the defaults, sizes with their units."""
    # The name is in a line of its own.
    return dict(_differing({name: value for name, value in fields.items() if name != "base-image"}, DEFAULTS))


def _differing(fields: Mapping[str, object], defaults: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, dict):
            inner = dict(_differing(value, default if isinstance(default, dict) else {}))
            if inner:
                yield name, inner
        elif value != default:
            yield name, _with_unit(name, value)


def _with_unit(name: str, value: object) -> object:
    if name in SIZES and isinstance(value, int) and value >= 1024:
        return f"{human_size(value)} ({value} bytes)"
    return value
