"""Commit and rebase that are killed, stopped or out of space: the disk is as before, and the same command
completes the work."""

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import FVD, KIB, MIB, TOOLS_ENV, run
from support.disks import Ballast, content, random_disk

SIZE = MIB
CALLS = ("ftruncate", "fallocate", "pwrite64", "pwritev2", "fdatasync", "fsync")
# More calls than any thread of a small disk makes.
MOST = 120
KINDS = {
    "plain": ("raw", ["-o", "block_size=64K"]),
    "compact": ("raw", ["-o", "compact_image=on,chunk_size=64K,block_size=64K"]),
    "over-fvd": ("fvd", ["-o", "compact_image=on,chunk_size=64K,block_size=64K"]),
}


def disk(path: Path) -> bytes:
    with fvd.open(path) as image:
        return content(image)


def chain(folder: Path, kind: str) -> Path:
    """Makes an image over a base. The base is also as it will be after a rebase, in `new`."""
    format, options = KINDS[kind]
    random_disk(folder / "low.raw", SIZE, seed=1, density=1)
    if format == "raw":
        (folder / "base").write_bytes((folder / "low.raw").read_bytes())
    else:
        run(FVD, "create", "-q", *options, "-b", "low.raw", "-F", "raw", folder / "base")
    random_disk(folder / "new", SIZE, seed=2, density=0.5)
    run(FVD, "create", "-q", *options, "-b", "base", "-F", format, folder / "top.fvd")
    rng = random.Random(3)
    with fvd.open(folder / "top.fvd", "r+") as image:
        for at in (0, 200 * KIB, 700 * KIB):
            image.pwrite(rng.randbytes(100 * KIB), at)
        image.zero(128 * KIB, 400 * KIB)
    return folder / "top.fvd"


def killed_at_each(call: str, command: list[str | Path], cwd: Path) -> Iterator[None]:
    """Runs `command` again and again, killed as a thread is about to make its first call of this name, its
    second, and so on. Ends with the first run that is not killed."""
    for number in range(1, MOST):
        strace: list[str | Path] = ["strace", "-f", "-qq", "-o", "/dev/null"]
        for name in ("top.fvd", "base"):
            strace += ["-P", cwd / name]
        strace += ["-e", f"inject={call}:signal=KILL:when={number}"]
        done = subprocess.run(
            [*strace, FVD, *command], cwd=cwd, env=TOOLS_ENV, capture_output=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return
        assert done.returncode == -9, (done.returncode, done.stderr)
        yield
    pytest.fail(f"more than {MOST} calls of {call}")


@pytest.mark.parametrize(
    "command", [["commit", "-q"], ["rebase", "-b", "new", "-F", "raw"]], ids=["commit", "rebase"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_call_leaves_the_disk_as_it_was(tmp_path: Path, kind: str, command: list[str]) -> None:
    kills = 0
    for call in CALLS:
        folder = tmp_path / call
        folder.mkdir()
        image = chain(folder, kind)
        before = disk(image)
        for _ in killed_at_each(call, [*command, image], folder):
            kills += 1
            assert disk(image) == before, f"killed at call {kills} of {call}"
            assert fvd.check(image)["corruptions"] == 0
        assert disk(image) == before
        if command[0] == "commit":
            assert disk(folder / "base") == before if kind == "over-fvd" else True
            assert all(extent["depth"] > 0 for extent in fvd.map(image))
        else:
            assert fvd.info(image)["backing-filename"] == "new"
    assert kills >= 5, "the calls have other names on this system"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["commit", "rebase"])
def test_a_signal_stops_at_a_safe_point_and_says_how_far_it_came(
    tmp_path: Path, number: signal.Signals, command: str
) -> None:
    image = chain(tmp_path, "plain")
    before = disk(image)
    new_base = ["-b", "new", "-F", "raw"] if command == "rebase" else []
    words = [command, "-p", *new_base, str(image)]
    with subprocess.Popen(
        [FVD, *words, "-r", "50K"],
        cwd=tmp_path,
        env=TOOLS_ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)  # the first percentages: it has begun
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"stopped after" in said
    assert b"The same command completes it" in said
    assert disk(image) == before
    run(FVD, *words, cwd=tmp_path)
    assert disk(image) == before


def test_a_full_file_system_during_a_rebase_leaves_the_old_base(small_file_system: Path) -> None:
    image = chain(small_file_system, "compact")
    before = disk(image)
    ballast = Ballast(small_file_system, left=200 * KIB)
    with pytest.raises(fvd.NoSpaceError):
        fvd.rebase(image, "new", backing_format="raw")
    assert fvd.info(image)["backing-filename"] == "base"
    assert disk(image) == before
    ballast.drop()
    fvd.rebase(image, "new", backing_format="raw")
    assert disk(image) == before


def test_a_full_file_system_during_a_commit_leaves_the_image_as_it_was(small_file_system: Path) -> None:
    random_disk(small_file_system / "base", SIZE, seed=1, density=0)
    image = small_file_system / "top.fvd"
    fvd.create(image, backing_file="base", backing_format="raw")
    with fvd.open(image, "r+") as opened:
        opened.pwrite(random.Random(6).randbytes(SIZE), 0)
    before = disk(image)
    ballast = Ballast(small_file_system, left=200 * KIB)
    with pytest.raises(fvd.NoSpaceError):
        fvd.commit(image)
    assert disk(image) == before
    ballast.drop()
    fvd.commit(image)
    assert (small_file_system / "base").read_bytes() == disk(image) == before
