"""`typing.cast` without `typing`, whose import takes as long as a whole short command."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import cast as cast
else:

    def cast(kind, value):
        """Return `value`; type checkers take it for a `kind`."""
        return value
