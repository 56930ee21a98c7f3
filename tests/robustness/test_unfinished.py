"""Commands that end early: they remove what they made, and the rest is refused as not finished."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fvd
from fvd.types import ImageOptions
from support import FVD, KIB, MIB, TOOLS_ENV, fvd_command, run
from support.disks import allocated, random_disk, whole_content

ENDS = 60.0
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
KINDS = {
    "raw": ["-O", "raw"],
    "plain": ["-O", "fvd"],
    "compact": ["-O", "fvd", "-o", "compact_image=on,chunk_size=64K"],
    "overlay": ["-O", "fvd", "-B", "base.raw", "-F", "raw"],
    "data-file": ["-O", "fvd", "-o", "data_file=data.raw"],
}
# Writing a target of this size takes longer than any test waits, so every test ends the command early.
ENDLESS = 1 << 40
GIB = 1 << 30
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes a long time to write with -S 0, but takes no space itself."""
    path = tmp_path / "endless.raw"
    with path.open("wb") as file:
        file.truncate(ENDLESS)
    with (tmp_path / "base.raw").open("wb") as base:
        base.truncate(MIB)
    yield path
    # What a test that failed has left may fill the disk.
    for disk in tmp_path.iterdir():
        disk.unlink()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device of 64 MiB."""
    file = tmp_path / "backing"
    with file.open("wb") as backing:
        backing.truncate(64 * MIB)
    name = run("losetup", "--find", "--show", file).stdout.decode().strip()
    try:
        yield Path(name)
    finally:
        run("losetup", "--detach", name)


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [FVD, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=TOOLS_ENV,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + ENDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it has not begun"
        time.sleep(0.005)


def end_when(
    process: subprocess.Popen[bytes], condition: Callable[[], bool], number: int
) -> tuple[int, bytes]:
    """Sends the signal as soon as the condition holds. Returns the exit status and stderr."""
    try:
        wait_until(condition, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=ENDS)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, err


def has_written(*paths: Path, least: int = 4 * MIB) -> Callable[[], bool]:
    return lambda: sum(allocated(path) for path in paths if path.exists()) >= least


def assert_refused_as_unfinished(disk: Path) -> None:
    for command in ("info", "check", "map", "convert"):
        words = [disk, f"{disk}.copy"] if command == "convert" else [disk]
        said = fvd_command(command, *words, ok=(1,))
        assert b"not finished" in said.stderr, said.stderr
    with pytest.raises(fvd.InvalidImageError, match="not finished"):
        fvd.open(disk)


@kinds
@pytest.mark.parametrize("number", SIGNALS)
def test_a_conversion_ended_by_a_signal_removes_its_target(
    endless: Path, kind: str, number: signal.Signals
) -> None:
    there = set(endless.parent.iterdir())
    target, data = endless.parent / "target", endless.parent / "data.raw"
    process = start("convert", "-f", "raw", "-S", "0", *KINDS[kind], endless, target)
    assert end_when(process, has_written(target, data), number) == (SIGNALS[number], b"")
    assert set(endless.parent.iterdir()) == there


def test_an_ignored_signal_does_not_end_a_conversion(tmp_path: Path) -> None:
    target = tmp_path / "target"
    sent = random.Random(1).randbytes(8 * MIB)
    process = subprocess.Popen(
        ["nohup", FVD, "convert", "-f", "raw", "-", target],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=TOOLS_ENV,
    )
    assert process.stdin is not None
    process.stdin.write(sent[: 6 * MIB])
    process.stdin.flush()
    wait_until(has_written(target, least=MIB), process)
    process.send_signal(signal.SIGHUP)
    process.stdin.write(sent[6 * MIB :])
    process.communicate(timeout=ENDS)
    assert process.returncode == 0
    assert target.read_bytes() == sent


@kinds
def test_a_killed_conversion_leaves_no_usable_target(endless: Path, kind: str) -> None:
    target, data = endless.parent / "target", endless.parent / "data.raw"
    process = start("convert", "-f", "raw", "-S", "0", *KINDS[kind], endless, target)
    assert end_when(process, has_written(target, data), signal.SIGKILL)[0] == -signal.SIGKILL
    assert_refused_as_unfinished(target)


def test_a_killed_command_can_be_repeated_with_its_data_file(endless: Path) -> None:
    source = random_disk(endless.parent / "source.raw", 8 * MIB, seed=7, density=1)
    target, data = endless.parent / "target", endless.parent / "data.raw"
    convert = ["convert", "-f", "raw", *KINDS["data-file"]]
    process = start(*convert, "-S", "0", endless, target)
    end_when(process, has_written(data), signal.SIGKILL)
    other = fvd_command(*convert, source, endless.parent / "other", ok=(1,))
    assert b"data.raw: data_file: the file is not empty" in other.stderr
    fvd_command(*convert, source, target)
    fvd_command("compare", "-F", "raw", target, source)
    # The image is complete now, so the data file does not count as left by an unfinished command.
    again = fvd_command(*convert, source, target, ok=(1,))
    assert b"the file is not empty" in again.stderr
    fvd_command("compare", "-F", "raw", target, source)


@pytest.mark.parametrize("kind", ["raw", "plain", "compact", "overlay"])
@pytest.mark.parametrize("on_device", [False, True], ids=["file", "device"])
def test_a_kill_leaves_the_old_disk_or_the_new_one_or_none(
    tmp_path: Path, device: Path, kind: str, on_device: bool
) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(MIB))
    disks = [
        random_disk(tmp_path / "old.raw", 24 * MIB, seed=1, density=1),
        random_disk(tmp_path / "new.raw", 32 * MIB, seed=2, density=1),
    ]
    contents = [disk.read_bytes() for disk in disks]
    target = device if on_device else tmp_path / "target"
    options = [str(tmp_path / word) if word == "base.raw" else word for word in KINDS[kind]]
    rng = random.Random(f"kill {kind} {on_device}")
    for number in range(3):
        fvd_command("convert", "-f", "raw", *options, disks[0], target)
        old = first_bytes(target)
        process = start("convert", "-f", "raw", *options, disks[1], target)
        if number % 3:
            wait_until(lambda old=old: first_bytes(target) != old, process)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.05))
        else:
            time.sleep(rng.uniform(0, 1.0))
        process.kill()
        process.communicate()
        now = whole_content(target, trust=tmp_path)
        # The file is empty if it was created just before the kill. A raw device is longer than either disk.
        assert now is None or not now or any(now[: len(it)] == it for it in contents)


def first_bytes(disk: Path) -> bytes:
    with disk.open("rb") as file:
        return file.read(4)


@pytest.mark.parametrize("kind", ["plain", "compact"])
def test_a_device_that_is_too_small_has_no_image_afterwards(tmp_path: Path, device: Path, kind: str) -> None:
    source = random_disk(tmp_path / "source.raw", 80 * MIB, seed=3, density=1)
    fvd_command("convert", "-f", "raw", *KINDS[kind], "-S", "0", source, device, ok=(1,))
    if kind == "compact":
        # The error occurred only when the device was full.
        assert_refused_as_unfinished(device)
    else:
        assert device.read_bytes() == bytes(64 * MIB), "nothing was begun"


@pytest.mark.parametrize("kind", ["raw", "plain", "compact"])
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_an_existing_target_stays_unfinished_until_rewritten(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    source = random_disk(tmp_path / "source.raw", 8 * MIB, seed=4, density=1)
    slow, target = tmp_path / "slow.raw", tmp_path / "target"
    for path in (slow, target):
        with path.open("wb") as file:
            file.truncate(64 * GIB)
    if kind != "raw":
        fvd_command("create", "-q", *KINDS[kind][2:], target, "64G")
    format = ["-O", "raw" if kind == "raw" else "fvd"]
    there = allocated(target)
    process = start("convert", "-n", "-S", "0", "-f", "raw", *format, slow, target)
    status, _ = end_when(process, has_written(target, least=there + 4 * MIB), number)
    assert status == SIGNALS.get(number, -number)
    assert_refused_as_unfinished(target)
    fvd_command("convert", "-n", "-f", "raw", *format, source, target)
    fvd_command("compare", "-F", "raw", target, source)
    # Too large to be kept with the other files of this test.
    target.unlink()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_create_ended_by_a_signal_removes_the_image(tmp_path: Path, number: signal.Signals) -> None:
    image = tmp_path / "image.fvd"
    process = start("create", "-q", "-o", "compact_image=on,chunk_size=4K", image, "4T")
    status, err = end_when(process, has_written(image, least=64 * MIB), number)
    assert (status, err) == (SIGNALS[number], b"")
    assert not image.exists()


def test_a_killed_create_leaves_no_image(tmp_path: Path) -> None:
    image = tmp_path / "image.fvd"
    process = start("create", "-q", "-o", "compact_image=on,chunk_size=4K", image, "4T")
    end_when(process, has_written(image, least=64 * MIB), signal.SIGKILL)
    assert_refused_as_unfinished(image)
    image.unlink()


def test_an_exception_in_a_program_removes_the_target(endless: Path) -> None:
    target = endless.parent / "target"

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    kinds: tuple[ImageOptions, ...] = ({}, {"data_file": "data.raw"})
    for options in kinds:
        with pytest.raises(KeyboardInterrupt):
            fvd.convert(
                endless,
                target,
                source_format="raw",
                target_format="fvd",
                sparse_size=0,
                options=options,
                progress=interrupt,
            )
        assert not target.exists()
        assert not (endless.parent / "data.raw").exists()


@pytest.mark.parametrize("progress", ["-p", "--progress=json"])
@pytest.mark.parametrize("where", ["full", "closed"])
def test_unwritable_progress_does_not_end_a_conversion(tmp_path: Path, progress: str, where: str) -> None:
    source = random_disk(tmp_path / "source.raw", 4 * MIB, seed=5, density=1)
    target = tmp_path / "target.fvd"
    if where == "full":
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    done = subprocess.run(
        [FVD, "convert", progress, "-f", "raw", "-O", "fvd", source, target],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output if "json" in progress else subprocess.PIPE,
        env=TOOLS_ENV,
        check=False,
        timeout=ENDS,
    )
    os.close(output)
    assert (done.returncode, done.stderr or b"") == (0, b"")
    fvd_command("compare", target, "-F", "raw", source)


def test_unwritable_progress_does_not_end_prefetch(tmp_path: Path) -> None:
    random_disk(tmp_path / "base.raw", 4 * MIB, seed=6, density=1)
    image = tmp_path / "image.fvd"
    fvd.create(image, backing_file="base.raw", backing_format="raw")
    with Path("/dev/full").open("wb") as full:
        subprocess.run([FVD, "prefetch", "-q", "-p", image], stdout=full, env=TOOLS_ENV, check=False)
        subprocess.run([FVD, "prefetch", "--progress=json", image], stderr=full, env=TOOLS_ENV, check=True)
    assert fvd.info(image)["format-specific"]["data"]["all-data-local"]


def test_an_unwritable_line_does_not_remove_the_image(tmp_path: Path) -> None:
    image = tmp_path / "image.fvd"
    with Path("/dev/full").open("wb") as full:
        made = subprocess.run(
            [FVD, "create", image, "1M"], stdout=full, stderr=subprocess.PIPE, env=TOOLS_ENV, check=False
        )
    assert (made.returncode, made.stderr) == (0, b"")
    assert fvd.info(image)["virtual-size"] == MIB


def test_a_profile_is_exported_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(64 * KIB))
    image, target = tmp_path / "image.fvd", tmp_path / "profile"
    options: ImageOptions = {"prefetch_profile_size": "4K"}
    fvd.create(image, backing_file="base.raw", backing_format="raw", options=options)

    def interrupt(_profile: object) -> str:
        raise KeyboardInterrupt

    there = set(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("fvd._profile.to_text", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fvd.export_profile(image, target)
        assert set(tmp_path.iterdir()) == there
    (tmp_path / "link").symlink_to("profile")
    fvd.export_profile(image, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert target.is_file()
