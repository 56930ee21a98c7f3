"""A command that is killed at each call that changes a file: what is left is the old disk, the new one, or
refused as not finished."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import FVD, KIB, MIB, TOOLS_ENV, fvd_command
from support.disks import random_disk, whole_content

KINDS = {
    "raw": ["-O", "raw"],
    "plain": ["-O", "fvd"],
    "compact": ["-O", "fvd", "-o", "compact_image=on,chunk_size=64K"],
    "overlay": ["-O", "fvd", "-B", "base.raw", "-F", "raw"],
    "data-file": ["-O", "fvd", "-o", "data_file=data.raw", "--force"],
}
CALLS = ("openat", "ftruncate", "fallocate", "pwrite64", "pwritev2", "fdatasync", "fsync", "io_uring_enter")
# More calls than any thread of a small conversion makes.
MOST = 40


def killed_at_each(call: str, command: list[str | Path], cwd: Path) -> Iterator[None]:
    """Runs `command` again and again, killed as a thread is about to make its first call of this name, its
    second, and so on. Ends with the first run that is not killed."""
    for number in range(1, MOST):
        traced = f"inject={call}:signal=KILL:when={number}"
        # Only files of the test: the interpreter, too, opens and reads files.
        strace: list[str | Path] = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-P",
            cwd / "target",
            "-P",
            cwd / "data.raw",
            "-e",
            traced,
        ]
        done = subprocess.run(
            [*strace, FVD, *command], cwd=cwd, env=TOOLS_ENV, capture_output=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return
        assert done.returncode == -9, (done.returncode, done.stderr)
        yield
    pytest.fail(f"more than {MOST} calls of {call}")


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_killed_at_any_call_leaves_no_wrong_disk(
    tmp_path: Path, kind: str, existing: bool
) -> None:
    (tmp_path / "base.raw").write_bytes(random.Random(3).randbytes(256 * KIB))
    old = random_disk(tmp_path / "old.raw", 1 * MIB, seed=1, density=1)
    new = random_disk(tmp_path / "new.raw", 2 * MIB, seed=2, density=1)
    contents = {old.read_bytes(), new.read_bytes()} if existing else {new.read_bytes()}
    target = tmp_path / "target"
    convert: list[str | Path] = ["convert", "-f", "raw", *KINDS[kind]]
    kills = 0
    for call in CALLS:
        target.unlink(missing_ok=True)
        (tmp_path / "data.raw").unlink(missing_ok=True)
        if existing:
            fvd_command(*convert, old, target, cwd=tmp_path)
        for _ in killed_at_each(call, [*convert, new, target], tmp_path):
            kills += 1
            now = whole_content(target, tmp_path)
            assert not now or now in contents, f"killed at call {kills} of {call}"
        assert whole_content(target, tmp_path) == new.read_bytes()
    assert kills >= 5, "the calls have other names on this system"
