"""Adds the docstrings of the compiled module to the site. Its stub, which griffe reads, has none."""

import inspect
from typing import Any

import griffe

import fvd._fvd
import fvd.aio


class CompiledDocstrings(griffe.Extension):
    """Copies the docstrings of `fvd._fvd`, and those that `fvd.aio` copies from `fvd.Image`."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called when a package has been loaded."""
        if pkg.path != "fvd":
            return
        add_overloaded_functions(pkg["_fvd"])
        copy_docstrings(pkg["_fvd"], fvd._fvd)
        copy_docstrings(pkg["aio"], fvd.aio)


def add_overloaded_functions(stub: griffe.Module) -> None:
    """Adds the functions that a stub has only as overloads: griffe expects an implementation. The last
    overload accepts what the others accept.
    """
    for name, overloads in stub.overloads.items():
        if name not in stub.members:
            *others, last = overloads
            last.overloads = others
            stub.set_member(name, last)


def copy_docstrings(documented: griffe.Object, live: object) -> None:
    """Copies the docstring of each member that has none yet, recursively."""
    for name, member in documented.members.items():
        value = inspect.getattr_static(live, name, None)
        if value is None or member.is_alias:
            continue
        text = inspect.getdoc(value)
        if text and not member.docstring:
            member.docstring = griffe.Docstring(text, parent=member)
        if member.is_class:
            copy_docstrings(member, value)
