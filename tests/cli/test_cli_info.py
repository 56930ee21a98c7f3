"""What `fvd info` shows to people."""

from __future__ import annotations

from pathlib import Path

import fvd
from fvd.cli import _fvd_fields
from support import FVD, MIB, run
from support.disks import random_disk


def said(*arguments: str | Path) -> str:
    return run(FVD, "info", *arguments).stdout.decode()


def overlay(folder: Path, **options: object) -> Path:
    random_disk(folder / "base.raw", 4 * MIB, seed=1)
    image = folder / "vm.fvd"
    fvd.create(image, backing_file="base.raw", backing_format="raw", options=options)  # type: ignore[arg-type]
    return image


def test_nothing_is_shown_that_every_new_image_has(tmp_path: Path) -> None:
    image = overlay(tmp_path)
    fields = fvd.info(image)["format-specific"]["data"]
    left = _fvd_fields.shown(fields)
    assert set(left) == {
        "compact",
        "base-size",
        "all-data-local",
        "copy-on-read",
        "block-size",
        "journal-size",
        "metadata-size",
    }
    text = said(image)
    assert "throttle" not in text
    assert "    base size: 4 MiB (4194304 bytes)\n" in text
    assert len(text.splitlines()) < 24


def test_a_tuned_value_is_shown_and_verbose_shows_all(tmp_path: Path) -> None:
    image = overlay(tmp_path, copy_on_read=True)
    run(FVD, "amend", "-q", "-o", "prefetch_throttle_time=100", image)
    text = said(image)
    assert "    copy on read: true\n" in text
    assert "    prefetch:\n        throttle time: 100\n" in text
    assert "slots" not in text
    assert "        slots: 2\n" in said("-v", image)


def test_an_overlay_says_how_much_of_its_base_is_local(tmp_path: Path) -> None:
    image = overlay(tmp_path)
    assert said(image).endswith("local: 0 B of 4 MiB (0.0%)\n")
    with fvd.open(image, "r+") as disk:
        disk.pwrite(b"x" * MIB, 0)
    assert said(image).endswith("local: 1 MiB of 4 MiB (25.0%)\n")
    with fvd.open(image, "r+") as disk:
        disk.prefetch()
    assert "    all data local: true\n" in said(image)
    flat = tmp_path / "flat.fvd"
    fvd.create(flat, size=MIB)
    assert "local:" not in said(flat)
