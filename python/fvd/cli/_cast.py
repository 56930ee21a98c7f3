"""`typing.cast` without importing `typing`, which takes as long as a whole short command."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import cast as cast
else:

    def cast(kind, value):
        """Return `value`. Type checkers treat it as a `kind`."""
        return value
