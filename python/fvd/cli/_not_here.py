"""What qemu-img and qemu-nbd have, and fvd has not: refused by name, with the alternative."""

from __future__ import annotations

from fvd.cli._common import CommandError

COMMANDS = {
    "bitmap": "images have no dirty bitmaps",
    "dd": "'fvd convert' copies a disk; for a part of it, 'fvd serve -r', then 'nbdcopy' or 'qemu-img dd'",
    "snapshot": "an overlay ('fvd create -b') is a snapshot of its base",
}
"""Commands of qemu-img."""

_SECRETS = "fvd reads no encrypted images: 'qemu-img convert' with the secret makes one that is not"
_IMAGE_OPTS = "name the file itself, and its format with -f"
_BITMAPS = "images have no dirty bitmaps"
_SNAPSHOT = "'qemu-img convert -l SNAPSHOT' makes a disk of an internal snapshot"
_PAGE_CACHE = "metadata is written through the page cache and synced, whatever the mode"

_EVERYWHERE = (("", "--image-opts", _IMAGE_OPTS), ("", "--object", _SECRETS))
"""Of each command of qemu-img."""

_OPTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "amend": (
        ("-p", "--progress", "a change takes no time that could be shown"),
        ("-t", "--cache", _PAGE_CACHE),
        ("", "--force", "there are no changes that it would allow; -u does not open what is named"),
    ),
    "check": (("-T", "--cache", _PAGE_CACHE),),
    "convert": (
        ("", "--source-image-opts", _IMAGE_OPTS),
        ("", "--target-image-opts", "name the file itself, and its format with -O"),
        ("-l", "--source-snapshot", _SNAPSHOT),
        ("", "--bitmaps", _BITMAPS),
        ("", "--skip-broken-bitmaps", _BITMAPS),
        ("-C", "--copy-range-offloading", "fvd copies through memory; 'cp --reflink' shares a whole file"),
        ("", "--salvage", "'qemu-img convert --salvage' to a raw disk goes on after read errors"),
    ),
    "commit": (("", "--drop", "-d (--keep) leaves the data in the image"),),
    "measure": (("-l", "--snapshot", _SNAPSHOT + ", which can be measured"),),
    "rebase": (
        ("-T", "--backing-cache", "bases are read through the page cache"),
        ("-U", "--force-share", "an image that is changed cannot be shared"),
        ("-c", "--compress", "fvd images cannot be compressed"),
        ("", "--backing-unsafe", "-u (--name-only) does not open the bases"),
    ),
    "resize": (
        (
            "",
            "--preallocation",
            "'fallocate -l SIZE FILE' takes the space for a larger raw disk or plain image",
        ),
    ),
    "serve": (
        ("-B", "--bitmap", "FVD images have no dirty bitmaps; qemu-nbd serves those of a qcow2 image"),
        ("-L", "--list", "'nbdinfo --list URI' lists the exports of a server"),
        ("-c", "--connect", "serve on a Unix socket (-k), then 'nbd-client -unix PATH DEVICE' connects it"),
        ("-d", "--disconnect", "'nbd-client -d DEVICE' disconnects it"),
        ("-l", "--load-snapshot", _SNAPSHOT),
        ("-s", "--snapshot", "make an overlay that takes the writes ('fvd create -b FILE'), serve that"),
        ("", "--object", "--tls-creds takes the folder, --tls-psk the file, --tls-authz the name itself"),
        ("", "--selinux-label", "start the server in the context that its socket is to have (runcon)"),
        ("", "--tls-hostname", "a name to check is for clients"),
    ),
}
"""For each command: short and long name of an option, and the alternative."""

_OF_QEMU_IMG = (
    "amend", "bench", "check", "commit", "compare", "convert", "create", "info", "map", "measure", "rebase",
    "resize",
)  # fmt: skip


def refuse(command: str, flag: str) -> None:
    """Raise `CommandError` if `command` of QEMU has the option `flag`, also a long one that is cut short."""
    for short, long, instead in _options(command):
        if flag == short or (len(flag) > 2 and long.startswith(flag)):
            raise CommandError(f"{flag} is not here: {instead}")


def refused_options(command: str) -> list[str]:
    """Return all names of the options that `refuse` refuses."""
    return [flag for short, long, _ in _options(command) for flag in (short, long) if flag]


def _options(command: str) -> tuple[tuple[str, str, str], ...]:
    own = _OPTIONS.get(command, ())
    return (*own, *_EVERYWHERE) if command in _OF_QEMU_IMG else own
