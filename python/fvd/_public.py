"""Public names are defined in private modules, and exported by others."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def publish(exporting: dict[str, Any]) -> None:
    """Give the exported functions and classes the name of the module that exports them.

    `exporting` are the globals of that module. Tracebacks, `help`, `repr` and pickles then show the name that
    users import.
    """
    for name in exporting["__all__"]:
        exported = exporting[name]
        if isinstance(exported, type | type(publish) | type(print)):
            exported.__module__ = exporting["__name__"]
