"""`--help`: every command has one that fits a terminal and ends with examples that run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fvd.cli import main
from fvd.cli._examples import EXAMPLES
from fvd.cli._help import GROUPS
from support import MIB, fvd_command, run
from support.disks import random_disk


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_a_help_fits_a_terminal_of_80_columns(command: str) -> None:
    said = fvd_command(*([command] if command else []), "--help").stdout.decode()
    assert [line for line in said.splitlines() if len(line) > 79] == []
    assert not re.search(r"[ \t]\n|\n\n\n", said)


def test_the_help_of_the_program_shows_every_command_in_one_group() -> None:
    said = fvd_command("--help").stdout.decode()
    listed = [name for names in GROUPS.values() for name in names if name in main.COMMANDS]
    assert sorted(listed) == sorted(main.COMMANDS)
    for group, names in GROUPS.items():
        block = said.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        shown = [line.split(" - ")[0].strip() for line in block.splitlines()]
        assert shown == [name for name in names if name in main.COMMANDS]


@pytest.mark.parametrize("command", main.COMMANDS)
def test_brackets_of_a_usage_are_closed_on_their_line(command: str) -> None:
    usage = fvd_command(command, "--help").stdout.decode().split("\n\n")[1]
    for line in usage.splitlines():
        assert line.count("[") == line.count("]"), line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_disk(tmp_path / "debian.raw", 4 * MIB, seed=1)
    shutil.copy(tmp_path / "debian.raw", tmp_path / "new.raw")
    (tmp_path / "templates").mkdir()
    (tmp_path / "cache" / "v1").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache").chmod(0o700)
    fvd_command("create", "-q", "disk.fvd", "1G", cwd=tmp_path)
    profile = "generate_prefetch_profile=on"
    fvd_command("create", "-q", "-b", "debian.raw", "-F", "raw", "-o", profile, "vm.fvd", cwd=tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", main.COMMANDS)
def test_the_examples_of_a_help_run(command: str, folder: Path) -> None:
    said = fvd_command(command, "--help").stdout.decode()
    _, _, examples = said.partition("\nExamples:\n")
    lines = [line.strip() for line in examples.splitlines()]
    assert lines
    assert lines == list(EXAMPLES[command])
    socket = folder / "vm.sock"
    try:
        for line in lines:
            assert f"fvd {command} " in line
            run("bash", "-c", line.replace("/run/vm.sock", str(socket)), cwd=folder)
    finally:
        if (pid := folder / "vm.pid").exists():
            run("kill", pid.read_text().strip())
