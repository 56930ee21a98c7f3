"""The longest possible chains, in processes and threads with a small stack."""

import subprocess
import sys
from pathlib import Path

import pytest

import fvd
from support import FVD, MIB, TOOLS_ENV, fvd_command

LONGEST = 200
"""Number of files of the longest chain: a raw disk and the images above it."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The topmost image of the longest chain."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "0").write_bytes(b"\x07" * MIB)
    for level in range(1, LONGEST):
        path, below = folder / str(level), str(level - 1)
        if level == 1:
            fvd.create(path, MIB, backing_file=below, backing_format="raw", backing_unsafe=True)
        else:
            fvd.create(path, MIB, backing_file=below, backing_format="fvd", backing_unsafe=True)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["map", "IMAGE"],
        ["map", "--output=json", "IMAGE"],
        ["info", "--backing-chain", "IMAGE"],
        ["check", "IMAGE"],
        ["check", "--backing-chain", "IMAGE"],
        ["compare", "IMAGE", "IMAGE"],
        ["convert", "-O", "raw", "IMAGE", "flat"],
        ["create", "-b", "198", "-F", "fvd", "new"],
    ],
    ids=" ".join,
)
def test_commands_need_little_stack(chain: Path, words: list[str]) -> None:
    words = [str(chain) if word == "IMAGE" else word for word in words]
    # Half of the default of a process. An earlier version needed more than this for chains of this length.
    limited: list[str | Path] = ["sh", "-c", 'ulimit -s 1024 && exec "$0" "$@"', FVD, *words]
    done = subprocess.run(
        limited, cwd=chain.parent, env=TOOLS_ENV, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


USES = {
    "open": "image = fvd.open(path); assert image.pread(512, 0) == b'\\x07' * 512; image.close()",
    "drop": "image = fvd.open(path); del image",
    "map": "assert [extent['depth'] for extent in fvd.map(path)] == [199]",
    "convert": "fvd.convert(path, path + '.flat', target_format='raw')",
    "aio": """
import asyncio
async def use():
    async with await fvd.aio.open(path) as image:
        assert await image.pread(512, 0) == b'\\x07' * 512
asyncio.run(use())
""",
    "prefetch": """
import shutil
shutil.copy(path, path + '.copy')
with fvd.open(path + '.copy', 'r+') as image:
    image.prefetch()
assert fvd.info(path + '.copy')['format-specific']['data']['all-data-local']
""",
}

IN_A_THREAD = """
import sys, threading
import fvd, fvd.aio
path, failed = sys.argv[1], []
def use():
    try:
        exec(sys.argv[2])
    except BaseException as error:
        failed.append(error)
threading.stack_size(256 << 10)
thread = threading.Thread(target=use)
thread.start()
thread.join()
assert not failed, failed
"""


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_threads_need_little_stack(chain: Path, use: str) -> None:
    command = [sys.executable, "-c", IN_A_THREAD, str(chain), use]
    done = subprocess.run(command, env=TOOLS_ENV, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


def test_an_image_that_could_not_be_opened_is_not_created(chain: Path) -> None:
    new = chain.parent / str(LONGEST)
    with pytest.raises(fvd.UnsupportedError, match=r"more than 200 files; `fvd convert`"):
        fvd.create(new, backing_file=chain.name, backing_format="fvd")
    assert not new.exists()
    done = fvd_command("convert", "-B", chain.name, "-F", "fvd", "-O", "fvd", chain, new, ok=(1,))
    assert b"more than 200 files" in done.stderr
    assert not new.exists()
