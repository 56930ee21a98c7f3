"""Fixtures for the command line over a fake core."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cli.fake_core import FakeCore


@dataclass
class Outcome:
    """The result of a run of the command."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    """Replace the compiled core by a fake."""
    monkeypatch.setenv("FVD_CONFIG", "")
    monkeypatch.delenv("FVD_TRUST", raising=False)
    monkeypatch.delenv("FVD_DEBUG", raising=False)
    return FakeCore.installed(monkeypatch)


@pytest.fixture
def run(core: FakeCore, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `fvd` with arguments."""
    from fvd.cli.main import main

    def run(*arguments: str) -> Outcome:
        status = main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run
