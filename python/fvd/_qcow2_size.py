"""How large a qcow2 image is: its header, tables of references and of reference counts, and clusters.

fvd writes no such images. The sizes are those that `qemu-img` plans with (docs/interop/qcow2.txt of QEMU has
the format): the tables have room for the whole disk from the start.
"""

from __future__ import annotations

from fvd.options import Option, OptionError, normalise_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import OptionValue, Qcow2Options

OPTIONS = (
    Option("backing_file", "file", "File name of a base image; does not change the result"),
    Option("backing_fmt", "str", "Image format of the base image; does not change the result"),
    Option("cluster_size", "size", "Unit of allocation", "bytes, a power of two, 512 to 2M; default: 64K"),
    Option("compat", "str", "Compatibility level", "0.10 or 1.1 (default)"),
    Option("compression_type", "str", "Compression method; does not change the result", "zlib or zstd"),
    Option("extended_l2", "bool", "Extended L2 tables", "default: off"),
    Option("lazy_refcounts", "bool", "Postpone refcount updates; does not change the result"),
    Option("preallocation", "str", "Preallocation mode", "off (default), metadata, falloc or full"),
    Option("refcount_bits", "number", "Width of a reference count", "bits: 1, 2, 4 .. 64; default: 16"),
)
_WORDS = {
    "compat": ("0.10", "v2", "1.1", "v3"),
    "compression_type": ("zlib", "zstd"),
    "preallocation": ("off", "metadata", "falloc", "full"),
}
_MAX_L1 = 32 << 20
"""Bytes of the largest L1 table that QEMU opens."""


class Layout:
    """The sizes of an image in bytes: of a `cluster`, of all `metadata`, and of the `data` of the whole disk.

    `is_allocated`: all data has its place from the start.
    """

    def __init__(self, cluster: int, metadata: int, data: int, is_allocated: bool) -> None:
        """Store the sizes."""
        self.cluster = cluster
        self.metadata = metadata
        self.data = data
        self.is_allocated = is_allocated


def layout(size: int, options: Qcow2Options | None) -> Layout:
    """Return the layout of a disk of `size` bytes. Raises `OptionError`, in the words of QEMU."""
    values = normalise_known(options or {}, {option.name: option for option in OPTIONS})
    cluster, refcount_bits, entry = _checked(values)
    clusters = -(-size // cluster)
    l2_tables = -(-clusters * entry // cluster)
    l1 = -(-l2_tables * 8 // cluster)
    if l1 * cluster > _MAX_L1:
        raise OptionError("The image size is too large (try using a larger cluster size)")
    used = 1 + l1 + l2_tables + clusters
    metadata = used - clusters + _refcount_clusters(used, cluster, refcount_bits)
    is_allocated = values.get("preallocation") in ("falloc", "full")
    return Layout(cluster, metadata * cluster, clusters * cluster, is_allocated)


def _checked(values: dict[str, OptionValue]) -> tuple[int, int, int]:
    """Return the sizes of a cluster in bytes, of a reference count in bits, and of an L2 entry in bytes."""
    for name, words in _WORDS.items():
        if values.get(name, words[0]) not in words:
            raise OptionError(f"Parameter '{name}' is one of: {', '.join(words)}")
    cluster, refcount_bits = int(values.get("cluster_size", 65536)), int(values.get("refcount_bits", 16))
    if cluster.bit_count() != 1 or not 512 <= cluster <= 2 << 20:
        raise OptionError("Cluster size must be a power of two between 512 and 2048k")
    if refcount_bits.bit_count() != 1 or not 1 <= refcount_bits <= 64:
        raise OptionError("Refcount width must be a power of two and may not exceed 64 bits")
    if refcount_bits != 16 and values.get("compat") in ("0.10", "v2"):
        raise OptionError(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above "
            "(use compat=1.1 or greater)"
        )
    if not values.get("extended_l2"):
        return cluster, refcount_bits, 8
    if cluster < 16384:
        raise OptionError("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes")
    return cluster, refcount_bits, 16


def _refcount_clusters(used: int, cluster: int, refcount_bits: int) -> int:
    """Return the clusters of reference counts for `used` clusters and for themselves."""
    blocks = table = 0
    while True:
        needed_blocks = -(-(used + blocks + table) * refcount_bits // (8 * cluster))
        needed_table = -(-needed_blocks * 8 // cluster)
        if (needed_blocks, needed_table) == (blocks, table):
            return blocks + table
        blocks, table = needed_blocks, needed_table
