"""Makes the files that are installed with the package, besides its modules: completions and man pages.

`python -m scripts.generated` writes them into wheel-data, which maturin puts into the wheel.
"""

from __future__ import annotations

from pathlib import Path

from fvd.cli import _help
from fvd.cli import main as cli
from scripts.completions import bash, fish, zsh
from scripts.completions.model import commands
from scripts.man_pages import pages

ROOT = Path(__file__).resolve().parents[1]
SHARE = ROOT / "wheel-data" / "data" / "share"


def files() -> dict[str, str]:
    """Return the content of every file, by its path below `share`."""
    known = commands()
    manual = pages.made(ROOT / "docs" / "cli", cli.COMMANDS, _help.GROUPS)
    return {
        **{f"man/man1/{name}": page for name, page in manual.items()},
        "bash-completion/completions/fvd": bash.script(known),
        "fish/vendor_completions.d/fvd.fish": fish.script(known),
        "zsh/site-functions/_fvd": zsh.script(known),
    }


def main() -> None:
    """Write the files, and remove others."""
    made = files()
    for name, text in made.items():
        path = SHARE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in SHARE.rglob("*"):
        if path.is_file() and str(path.relative_to(SHARE)) not in made:
            path.unlink()


if __name__ == "__main__":
    main()
