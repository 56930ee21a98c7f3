"""The rate of prefetch can be limited, and changed while it runs."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

import fvd
import fvd.aio
from support import FVD, KIB, MIB, run


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "base.raw").write_bytes(random.Random(7).randbytes(2 * MIB))
    image = tmp_path / "vm.fvd"
    fvd.create(image, backing_file="base.raw", backing_format="raw")
    return image


def test_prefetch_is_not_faster_than_its_rate(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        begun = time.monotonic()
        status = image.prefetch(rate_limit=4 * MIB)
        # All but the first pieces wait.
        assert time.monotonic() - begun >= 0.3
        assert status["state"] == "finished"


def test_a_rate_that_is_raised_ends_a_slow_prefetch(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image:
        image.set_prefetch_rate(16 * KIB)  # would take two minutes
        fetched = 0

        def faster(status: fvd.types.PrefetchStatus) -> None:
            nonlocal fetched
            if status["fetched"] and not fetched:
                fetched = status["fetched"]
                image.set_prefetch_rate(None)

        assert image.prefetch(progress=faster)["state"] == "finished"
        assert 0 < fetched < MIB


def test_asyncio_has_the_same(overlay: Path) -> None:
    async def prefetch() -> None:
        async with await fvd.aio.open(overlay, "r+") as image:
            await image.set_prefetch_rate(16 * KIB)
            assert (await image.prefetch(rate_limit=64 * MIB))["state"] == "finished"

    asyncio.run(prefetch())


def test_a_rate_is_a_number_of_bytes(overlay: Path) -> None:
    with fvd.open(overlay, "r+") as image, pytest.raises(ValueError, match="rate must be between 0 and"):
        image.set_prefetch_rate(-5)
    said = run(FVD, "prefetch", "-r", "fast", overlay, ok=[1]).stderr
    assert b"Invalid rate limit 'fast'" in said
    run(FVD, "prefetch", "-q", "-r", "64M", overlay)
