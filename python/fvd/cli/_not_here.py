"""Options of qemu-nbd that `fvd serve` does not have: refused by name, with the alternative."""

from __future__ import annotations

import argparse

from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_OPTIONS = (
    ("-B", "--bitmap", True, "FVD images have no dirty bitmaps; qemu-nbd serves those of a qcow2 image"),
    ("-L", "--list", False, "'nbdinfo --list URI' lists the exports of a server"),
    ("-c", "--connect", True, "serve on a Unix socket (-k), then 'nbd-client -unix PATH DEVICE' connects it"),
    ("-d", "--disconnect", False, "'nbd-client -d DEVICE' disconnects it"),
    ("-l", "--load-snapshot", True, "'qemu-img convert -l SNAPSHOT' makes a disk of an internal snapshot"),
    ("-s", "--snapshot", False, "make an overlay that takes the writes ('fvd create -b FILE'), serve that"),
    ("", "--object", True, "--tls-creds takes the folder, --tls-psk the file, --tls-authz the name itself"),
    ("", "--selinux-label", True, "start the server in the context that its socket is to have (runcon)"),
    ("", "--tls-hostname", True, "a name to check is for clients"),
)
"""Names, whether a value follows, and the alternative."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add these options to `parser`. Its help does not show them."""
    for short, long, has_value, instead in _OPTIONS:
        flags = [flag for flag in (short, long) if flag]
        parser.add_argument(*flags, action=_Refuse, nargs=None if has_value else 0, const=instead)


class _Refuse(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Raise CommandError."""
        raise CommandError(f"{option_string} is not here: {self.const}")
