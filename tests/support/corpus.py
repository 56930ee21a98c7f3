"""Images made by the original driver, each with a JSON file about the content it must have.

They are in `../shared/corpus` next to the repository. A few of them are also in the repository
(`tests/corpus/data`), for those who have only that. `FVD_CORPUS` names another folder, which must exist then.
"""

import functools
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import REPOSITORY, run

OWN = REPOSITORY / "tests" / "corpus" / "data"


@dataclass(frozen=True)
class Case:
    name: str
    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / f"{self.name}.tar.xz"

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / f"{self.name}.json").read_text())
        return loaded

    @property
    def header(self) -> dict[str, Any]:
        header: dict[str, Any] = self.meta["header"]
        return header

    @property
    def size(self) -> int:
        return int(self.header["virtual_disk_size"])

    @property
    def recoverable(self) -> bool:
        """False if it was killed without a journal: its content is lost by design."""
        return bool(self.header["clean_shutdown"]) or self.header["journal_size"] > 0

    @property
    def hashed(self) -> bool:
        """True if the JSON has hashes of the whole disk. False if the disk is too large; then it has
        `reads`.
        """
        return "guest_sha256" in self.meta

    @property
    def updated(self) -> bool:
        """True if header fields were changed after creation, other than by use."""
        return self.name == "updated"

    @property
    def create_arguments(self) -> list[str]:
        """Arguments of a `create` that makes the same image, without the name of the program.

        They are those of the original's `create`, and its default block size, which is not ours.
        """
        program, create, *arguments = shlex.split(self.meta["create"])
        assert (program, create) == ("qemu-img", "create"), program
        block_size = self.header["block_size"]
        return [create, *(["-o", f"block_size={block_size}"] if block_size else []), *arguments]

    def unpack(self, folder: Path) -> Path:
        """Unpacks the case into `folder`, keeping its holes, and returns the path of the image."""
        folder.mkdir(parents=True, exist_ok=True)
        run("tar", "-xJf", self.archive, "--no-same-owner", "-C", folder)
        return folder / "image.fvd"

    def __str__(self) -> str:
        return self.name


def folders() -> list[Path]:
    """Folders with cases, the preferred one first."""
    named = os.environ.get("FVD_CORPUS")
    shared = Path(named) if named else REPOSITORY.parent / "shared" / "corpus"
    if named and not shared.is_dir():
        raise FileNotFoundError(f"FVD_CORPUS={named}: there is no such folder")
    return [folder for folder in (shared, OWN) if folder.is_dir()]


def cases() -> list[Case]:
    """All cases, each once. Raises an error if there are none, so that the tests cannot pass without work."""
    found: dict[str, Case] = {}
    for folder in folders():
        for description in sorted(folder.glob("*.json")):
            found.setdefault(description.stem, Case(description.stem, folder))
    if not found:
        raise FileNotFoundError(f"no image of the original driver in {' or '.join(map(str, folders()))}")
    return [found[name] for name in sorted(found)]
