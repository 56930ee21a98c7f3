"""Images made by the original driver, each with a JSON file that says what it must contain.

They lie in `../shared/corpus` beside the repository; a few of them are part of it (`tests/corpus/data`),
for whoever has only that. `FVD_CORPUS` names another folder, which then must exist.
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
        """False: killed without a journal, the content is lost by design."""
        return bool(self.header["clean_shutdown"]) or self.header["journal_size"] > 0

    @property
    def hashed(self) -> bool:
        """True: the JSON has hashes of the whole disk. False: it is too large, there are `reads`."""
        return "guest_sha256" in self.meta

    @property
    def updated(self) -> bool:
        """True: header fields were changed after creation, by other means than use."""
        return self.name == "updated"

    @property
    def create_arguments(self) -> list[str]:
        """Arguments of the `create` that made it, behind the name of the program."""
        program, *arguments = shlex.split(self.meta["create"])
        assert program == "qemu-img", program
        return arguments

    def unpack(self, folder: Path) -> Path:
        """Unpacks the case into `folder`, with its holes, and returns the path of the image."""
        folder.mkdir(parents=True, exist_ok=True)
        run("tar", "-xJf", self.archive, "--no-same-owner", "-C", folder)
        return folder / "image.fvd"

    def __str__(self) -> str:
        return self.name


def folders() -> list[Path]:
    """Where cases are, the preferred folder first."""
    named = os.environ.get("FVD_CORPUS")
    beside = Path(named) if named else REPOSITORY.parent / "shared" / "corpus"
    if named and not beside.is_dir():
        raise FileNotFoundError(f"FVD_CORPUS={named}: there is no such folder")
    return [folder for folder in (beside, OWN) if folder.is_dir()]


def cases() -> list[Case]:
    """All cases, each once. None at all is an error: these tests never pass by having nothing to do."""
    found: dict[str, Case] = {}
    for folder in folders():
        for description in sorted(folder.glob("*.json")):
            found.setdefault(description.stem, Case(description.stem, folder))
    if not found:
        raise FileNotFoundError(f"no image of the original driver in {' or '.join(map(str, folders()))}")
    return [found[name] for name in sorted(found)]
