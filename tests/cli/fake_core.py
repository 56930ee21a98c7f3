"""A stand-in for the compiled core: records the calls and gives the answers that a test has set."""

from collections.abc import Callable
from typing import Any

import pytest

import fvd
import fvd._fvd

FUNCTIONS = (
    "amend",
    "check",
    "commit",
    "compare",
    "convert",
    "create",
    "dump",
    "info",
    "map",
    "open",
    "profile",
    "rebase",
    "stats",
)


class FakeCore:
    """Has every function of the core. `answers` holds a result, an exception to raise or a function to
    call.
    """

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> "FakeCore":
        """A fake in place of the core, also where `fvd` exports a function of the core as it is."""
        fake = cls()
        for name in FUNCTIONS:
            if getattr(fvd, name) is getattr(fvd._fvd, name):
                monkeypatch.setattr(fvd, name, getattr(fake, name))
            monkeypatch.setattr(fvd._fvd, name, getattr(fake, name))
        return fake

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            self.calls.append((name, arguments, settings))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*arguments, **settings) if callable(answer) else answer

        return call

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments of the only call."""
        ((_, _, settings),) = self.calls
        return settings

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of the only call."""
        ((_, arguments, _),) = self.calls
        return arguments


class FakeImage:
    """An open image in memory. Like the real one, it refuses access beyond its end."""

    def __init__(self, content: bytes, *, writable: bool = True) -> None:
        self.content = bytearray(content)
        self.writable = writable
        self.path = "disk.fvd"

    @property
    def size(self) -> int:
        return len(self.content)

    def readinto(self, buffer: Any, offset: int) -> int:
        self._inside(len(buffer), offset)
        buffer[:] = self.content[offset : offset + len(buffer)]
        return len(buffer)

    def pwrite(self, buffer: Any, offset: int) -> int:
        assert self.writable
        self._inside(len(buffer), offset)
        self.content[offset : offset + len(buffer)] = buffer
        return len(buffer)

    def _inside(self, count: int, offset: int) -> None:
        if offset < 0 or offset + count > self.size:
            raise ValueError("beyond the end of the disk")
