"""What commands print as JSON is as its schema says, and the schemas are those of the types."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

import fvd
from scripts import schemas
from support import FVD, MIB, REPOSITORY, TOOLS_ENV, run
from support.disks import random_disk

FOLDER = REPOSITORY / "docs" / "schemas"


def test_the_files_are_those_that_the_types_give() -> None:
    kept = {path.stem: path.read_text() for path in FOLDER.glob("*.json")}
    assert kept == schemas.made(), "python -m scripts.schemas"


def fits(name: str, found: Any) -> None:
    """The document fits, and the schema knows all that is in it."""
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema)
    assert_known(schema, found)


def assert_known(schema: dict[str, Any], found: Any) -> None:
    if isinstance(found, list) and "items" in schema:
        for one in found:
            assert_known(schema["items"], one)
    if isinstance(found, dict) and "properties" in schema:
        assert set(found) <= set(schema["properties"])
        for name, value in found.items():
            assert_known(schema["properties"][name], value)


def printed(*words: str | Path, ok: tuple[int, ...] = (0,)) -> Any:
    return json.loads(run(FVD, *words, "--output=json", ok=ok).stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_disk(tmp_path / "base.raw", 4 * MIB, seed=1)
    return tmp_path


def test_commands_that_change_something(folder: Path) -> None:
    image, base = folder / "vm.fvd", folder / "base.raw"
    words = ("-b", base, "-F", "raw", "-o", "generate_prefetch_profile=on")
    fits("create", printed("create", *words, image))
    fits("amend", printed("amend", "-o", "copy_on_read=on", image))
    fits("resize", printed("resize", image, "8M"))
    with fvd.open(image, "r+", trust=[folder]) as disk:
        disk.pwrite(b"x" * MIB, 0)
        disk.pread(4096, 3 * MIB)
    fits("profile", printed("profile", "show", image))
    fits("dump", printed("dump", image))
    fits("commit", printed("commit", "-d", "--trust", folder, image))
    fits("prefetch", printed("prefetch", "--trust", folder, image))
    fits("rebase", printed("rebase", "-b", "", image))


def test_commands_that_only_look(folder: Path) -> None:
    image, base = folder / "vm.fvd", folder / "base.raw"
    run(FVD, "create", "-q", "-b", "base.raw", "-F", "raw", image)
    fits("info", printed("info", image))
    fits("info", printed("info", "--stats", image))
    fits("info-chain", printed("info", "--backing-chain", image))
    fits("check", printed("check", image))
    fits("map", printed("map", image))
    fits("measure", printed("measure", "-O", "raw", image))
    fits("measure", printed("measure", "-O", "qcow2", base))
    fits("bench", printed("bench", "-c", "10", image))
    fits("bench", printed("bench", "-c", "10", "-d", "4", "--random=3", image))


def test_a_damaged_image_and_one_of_qemu(folder: Path) -> None:
    disk = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "4M")
    run("qemu-img", "snapshot", "-c", "one", disk)
    fits("info", printed("info", disk))
    image = folder / "vm.fvd"
    run(FVD, "create", "-q", "-o", "compact_image=on", image, "64M")
    with fvd.open(image, "r+") as opened:
        opened.pwrite(b"x", 0)
    offset = fvd.dump(image)["header"]["table_offset"]
    with image.open("r+b") as file:
        file.seek(offset)
        file.write((77).to_bytes(4, "little"))
    found = printed("check", image, ok=(1, 2, 3))
    assert found["messages"]
    fits("check", found)


def test_lines_of_progress_and_of_errors(folder: Path) -> None:
    image, base = folder / "vm.fvd", folder / "base.raw"
    run(FVD, "create", "-q", "-b", "base.raw", "-F", "raw", image)
    for name, words in (
        ("progress", ("convert", "--progress=json", base, folder / "copy.raw")),
        ("prefetch-progress", ("prefetch", "--progress=json", image)),
    ):
        done = run(FVD, *words)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(b"{")]
        assert lines
        for line in lines:
            fits(name, json.loads(line))
    said = run(FVD, "--errors=json", "info", folder / "none", ok=[1]).stderr
    fits("errors", json.loads(said))


def test_a_server_that_is_ready(folder: Path) -> None:
    words = (FVD, "serve", "-k", folder / "s", "-f", "raw", "-t", "--output=json", folder / "base.raw")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=TOOLS_ENV) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    fits("serve", json.loads(line))
