"""The examples at the end of each `--help`."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "amend": (
        "fvd amend -o copy_on_read=on,prefetch_start_delay=60 vm.fvd",
        "fvd amend -o size=2G disk.fvd",
    ),
    "bench": (
        "fvd bench -c 1000 --random disk.fvd",
        "fvd bench -c 1000 -w --flush-interval=100 disk.fvd",
    ),
    "cache": ("fvd cache list cache", "fvd cache prune --size 20G cache"),
    "check": ("fvd check vm.fvd", "fvd check -r leaks disk.fvd"),
    "commit": ("fvd commit vm.fvd",),
    "compare": ("fvd compare -f raw debian.raw vm.fvd",),
    "convert": (
        "fvd convert -p -f raw -O fvd -o compact_image=on debian.raw copy.fvd",
        "fvd convert -O raw vm.fvd copy.raw",
    ),
    "create": (
        "fvd create new.fvd 20G",
        "fvd create -b debian.raw -F raw -o copy_on_read=on overlay.fvd",
    ),
    "dump": ("fvd dump --output=json vm.fvd",),
    "info": ("fvd info --backing-chain vm.fvd", "fvd info --stats --output=json vm.fvd"),
    "map": ("fvd map --output=json -s 1M -l 64K vm.fvd",),
    "measure": (
        "fvd measure --size 20G -O fvd",
        "fvd measure -f raw -O fvd -o compact_image=on debian.raw",
    ),
    "prefetch": ("fvd prefetch -p vm.fvd",),
    "profile": ("fvd profile show vm.fvd", "fvd profile clear vm.fvd"),
    "publish": ("fvd publish -f raw debian.raw templates/debian.raw",),
    "rebase": ("fvd rebase -b new.raw -F raw vm.fvd",),
    "resize": ("fvd resize disk.fvd +1G",),
    "serve": (
        "nbdinfo -- [ fvd serve vm.fvd ]",
        "fvd serve --fork -t --pid-file vm.pid -k /run/vm.sock vm.fvd",
    ),
    "update": ("fvd update vm.fvd copy_on_read=1",),
}
"""Command lines for each command. `vm.fvd` is an overlay of `debian.raw`, `disk.fvd` has no base."""
