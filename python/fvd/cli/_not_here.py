"""Options of qemu-nbd that `fvd serve` does not have: refused by name, with the alternative."""

from __future__ import annotations

from fvd.cli._arguments import Given, Option, Parser
from fvd.cli._common import CommandError

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


def add(parser: Parser) -> None:
    """Add these options to `parser`. Its help does not show them."""
    for short, long, has_value, instead in _OPTIONS:
        flags = [flag for flag in (short, long) if flag]
        parser.add(_Refused("refused", "a value" if has_value else "no value", instead), *flags)


class _Refused(Option):
    """An option that raises CommandError. Its constant is the alternative."""

    def store(self, given: Given, flag: str, value: str | None) -> None:
        raise CommandError(f"{flag} is not here: {self.constant}")
