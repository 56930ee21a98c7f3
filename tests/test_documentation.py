"""The examples of README.md and docs/ run as they are: `sh` and `python` blocks, in order.

Each page has its own folder, with `debian.raw` and `disk.raw` in it. They are on `https://images.example.org`,
too. Blocks marked `console`, which install or build, are not run.
"""

import re
from pathlib import Path

import pytest

from support import FVD, MIB, REPOSITORY, run
from support.disks import ext4_disk, fill_folder, random_disk
from support.example_host import example_host

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_EXAMPLES = [page for page in PAGES if BLOCK.search(page.read_text())]
COMMANDS = (
    "create",
    "info",
    "check",
    "map",
    "convert",
    "commit",
    "compare",
    "dump",
    "prefetch",
    "profile",
    "publish",
    "serve",
    "cache",
    "amend",
    "rebase",
    "resize",
    "update",
)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda p: p.stem
)
def test_examples_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    files = fill_folder(tmp_path / "files", seed=1, files=10)
    folder = tmp_path / "here"
    folder.mkdir()
    ext4_disk(folder / "debian.raw", 32 * MIB, files)
    random_disk(folder / "disk.raw", 8 * MIB, seed=2)
    with example_host(tmp_path / "host", [folder / "debian.raw", folder / "disk.raw"]) as env:
        for language, code in BLOCK.findall(page.read_text()):
            if language == "sh":
                run("bash", "-euo", "pipefail", "-c", code, cwd=folder, env=env)
            else:
                run(FVD.parent / "python", "-W", "error", "-c", code, cwd=folder, env=env)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_that_names_its_options(command: str) -> None:
    page = (REPOSITORY / "docs" / "cli" / f"{command}.md").read_text()
    said = run(FVD, command, "--help").stdout.decode()
    options = set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", said)) - {"-h", "--help"}
    assert options
    missing = sorted(option for option in options if f"`{option}" not in page and f", {option}" not in page)
    assert not missing, f"docs/cli/{command}.md does not tell about {missing}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
