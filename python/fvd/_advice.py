"""Warnings about calls that succeed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd.types import StrPath


def warn_of_names(path: StrPath, needs_trust: Sequence[str]) -> None:
    """Warn of an image that cannot be opened without trust."""
    if needs_trust:
        _warn(
            f"'{path}' names a URL, or a file outside its own directory, or a hidden one: "
            f"opening it needs trust={list(needs_trust)!r}"
        )


def warn_of_format(backing_file: object, backing_format: str | None) -> None:
    """Warn of a base whose format was not given."""
    if backing_file is not None and backing_format is None:
        _warn(
            "backing_file without backing_format: the format is guessed at every opening, "
            "and any writer of a raw base can make it look like another one"
        )


def _warn(text: str) -> None:
    import warnings

    # The frame of the caller of the public function that called `warn_of_*`.
    warnings.warn(text, UserWarning, stacklevel=4)
