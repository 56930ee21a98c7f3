"""Gives the site the docstrings of the compiled module: its stub, which griffe reads, has none."""

import inspect
from typing import Any

import griffe

import fvd._fvd
import fvd.aio


class CompiledDocstrings(griffe.Extension):
    """Copies the docstrings of `fvd._fvd`, and those that `fvd.aio` takes over from `fvd.Image`."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called when a package has been loaded."""
        if pkg.path != "fvd":
            return
        copy_docstrings(pkg["_fvd"], fvd._fvd)
        copy_docstrings(pkg["aio"], fvd.aio)


def copy_docstrings(documented: griffe.Object, live: object) -> None:
    """Copies those of the members, too, where there is no docstring yet."""
    for name, member in documented.members.items():
        value = inspect.getattr_static(live, name, None)
        if value is None or member.is_alias:
            continue
        text = inspect.getdoc(value)
        if text and not member.docstring:
            member.docstring = griffe.Docstring(text, parent=member)
        if member.is_class:
            copy_docstrings(member, value)
