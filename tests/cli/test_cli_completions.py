"""Completions: a person types a line with TABs into bash, zsh and fish, and the command gets the words."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fvd.cli import main
from fvd.options import FVD_OPTIONS
from scripts import generated
from support import TOOLS_ENV

SHARE = generated.SHARE
SECONDS = 60
"""How long a shell may take to answer: only a broken one takes so long."""

# Each makes `fvd` a function that shows its words: <convert><-O><raw>.
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        f"source {SHARE}/bash-completion/completions/fvd; PS1='ready '; "
        "fvd() { printf '<%s>' \"$@\"; echo .; }",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        f"fpath=({SHARE}/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D; PROMPT='ready '; "
        "fvd() { printf '<%s>' \"$@\"; echo . }",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        f"source {SHARE}/fish/vendor_completions.d/fvd.fish; function fvd; printf '<%s>' $argv; echo .; end; "
        "function fish_prompt; echo -n 'ready '; end",
    ),
}
EVERYWHERE = (
    ("conv\t", "<convert>"),
    ("help meas\t", "<help><measure>"),
    ("convert --target-f\tqcow2", "<convert><--target-format><qcow2>"),
    ("convert --target-cache writeth\t", "<convert><--target-cache><writethrough>"),
    ("convert -t writeth\t", "<convert><-t><writethrough>"),
    ("convert --target-cache=writeth\t", "<convert><--target-cache=writethrough>"),
    ("create -f ra\t", "<create><-f><raw>"),
    ("create -o compact_i\ton", "<create><-o><compact_image=on>"),
    ("create -o block_size=4k,compact_image=of\t", "<create><-o><block_size=4k,compact_image=off>"),
    ("create -o compact_image=on,chunk\t4k", "<create><-o><compact_image=on,chunk_size=4k>"),
    ("amend -o num_pre\t5", "<amend><-o><num_prefetch_slots=5>"),
    ("measure -O qco\t", "<measure><-O><qcow2>"),
    ("info --output js\t", "<info><--output><json>"),
    ("serve --detect-zeroes unm\t", "<serve><--detect-zeroes><unmap>"),
    ("cache ver\t", "<cache><verify>"),
    ("profile exp\t", "<profile><export>"),
    ("info only-o\t", "<info><only-one.fvd>"),
    ("info -f raw only-o\t", "<info><-f><raw><only-one.fvd>"),
    ("info --trust only-a-f\t", "<info><--trust><only-a-folder/>"),
    ("convert --progress=js\t", "<convert><--progress=json>"),
)


class Terminal:
    """A shell on a terminal."""

    def __init__(self, shell: str, folder: Path) -> None:
        command, setup = SHELLS[shell]
        self.said = ""
        self.process, self.terminal = pty.fork()
        if not self.process:
            os.chdir(folder)
            environment = TOOLS_ENV | {"TERM": "dumb", "HOME": str(folder), "HISTFILE": "", "COLUMNS": "200"}
            os.execvpe(command[0], command, environment)
        self.type(f" {setup}\r")
        self.wait_for(r"(?<!')ready ")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until what the shell has written matches, and forget it."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.said)):
            ready, _, _ = select.select([self.terminal], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.said!r}"
            self.said += os.read(self.terminal, 65536).decode(errors="replace")
        self.said = ""
        return found

    def words(self, line: str) -> str:
        """The words that `fvd` gets once this line has been typed."""
        for part in re.split("(\t)", line):
            self.type(part)
            # A shell may take what comes with a TAB for something pasted.
            time.sleep(0.02)
        self.type("\r")
        return self.wait_for(r"((?:<[^>\n]*>)+)\.")[1]

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.terminal)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "only-one.fvd").touch()
    (tmp_path / "only-a-folder").mkdir()
    shell = Terminal(request.param, tmp_path)
    yield shell
    shell.close()


def plain(words: str) -> str:
    return words.replace("=", "><").replace("/>", ">")


def test_lines_are_completed(terminal: Terminal) -> None:
    wrong = {}
    for line, words in EVERYWHERE:
        got = terminal.words(f"fvd {line}")
        # zsh writes a long option with its =, and takes the / from a folder at the end of a line.
        if plain(got) != plain(words):
            wrong[line] = got
    assert wrong == {}


def test_the_files_are_those_that_the_parsers_give() -> None:
    there = {str(path.relative_to(SHARE)): path.read_text() for path in SHARE.rglob("*") if path.is_file()}
    made = generated.files()
    assert there.keys() == made.keys()
    stale = [name for name in made if made[name] != there[name]]
    assert not stale, f"run 'make generated': {', '.join(stale)}"


@pytest.mark.parametrize("name", [name for name in generated.files() if "man" not in name])
def test_every_command_and_every_option_of_an_image_is_named(name: str) -> None:
    text = (SHARE / name).read_text()
    for word in (*main.COMMANDS, *(option.name for option in FVD_OPTIONS)):
        assert re.search(rf"\b{word}\b", text), word
