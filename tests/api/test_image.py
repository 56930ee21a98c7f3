"""The methods of an open image."""

import array
import io
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd.create(path, 8 * MIB, options={"compact_image": True, "chunk_size": 65536})
    return path


@pytest.fixture
def image(path: Path) -> Iterator[fvd.Image]:
    with fvd.open(path, "r+") as image:
        yield image


@pytest.mark.parametrize(
    "buffer",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"a part of it")[2:6],
        array.array("d", [1.0, 2.0]),
        b"",
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "empty"],
)
def test_any_contiguous_buffer_is_written(image: fvd.Image, buffer: bytes) -> None:
    expected = memoryview(buffer).tobytes()
    assert image.pwrite(buffer, 12345) == len(expected)
    assert image.pread(len(expected), 12345) == expected


def test_any_writable_buffer_is_filled(image: fvd.Image) -> None:
    image.pwrite(bytes(range(64)), 1000)
    numbers = array.array("i", [0] * 16)
    assert image.readinto(numbers, 1000) == 64
    assert numbers.tobytes() == bytes(range(64))
    whole = bytearray(100)
    assert image.readinto(memoryview(whole)[10:20], 1000) == 10
    assert whole == bytes(10) + bytes(range(10)) + bytes(80)


def test_an_unsuitable_buffer_is_refused(image: fvd.Image) -> None:
    with pytest.raises(BufferError, match="read-only"):
        image.readinto(b"immutable", 0)
    with pytest.raises(BufferError, match="contiguous"):
        image.pwrite(memoryview(bytes(10))[::2], 0)
    with pytest.raises(TypeError):
        image.pwrite("text", 0)  # type: ignore[arg-type]


def test_an_offset_outside_the_disk_is_a_value_error(image: fvd.Image) -> None:
    size = image.size
    for offset in (size, size + 1, -1, 1 << 63, 1 << 70):
        with pytest.raises(ValueError):  # noqa: PT011
            image.pread(1, offset)
        with pytest.raises(ValueError):  # noqa: PT011
            image.pwrite(b"x", offset)
    with pytest.raises(ValueError, match="beyond the end"):
        image.pread(1 << 60, 0)
    with pytest.raises(ValueError, match="beyond the end"):
        image.zero(2, size - 1)
    assert image.pread(0, size) == b""


def test_a_closed_image_refuses_everything_and_closes_again(path: Path) -> None:
    image = fvd.open(path, "r+")
    image.close()
    image.close()
    assert image.closed
    assert image.size == 8 * MIB
    for call in (lambda: image.pread(1, 0), lambda: image.pwrite(b"x", 0), image.flush, image.info):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_an_image_open_for_reading_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    with fvd.open(path) as image:
        with pytest.raises(fvd.NotPermittedError) as caught:
            image.pwrite(b"x", 0)
        assert caught.value.filename == str(path)
        assert image.pread(10, 0) == bytes(10)
    assert path.read_bytes() == before


def test_many_threads_write_and_read_their_own_parts(image: fvd.Image) -> None:
    parts = 8
    wrong: list[int] = []

    def work(part: int) -> None:
        rng = random.Random(part)
        start, length = part * MIB, MIB
        mine = bytearray(length)
        for _ in range(150):
            offset = rng.randrange(length - 1)
            data = rng.randbytes(rng.randrange(1, min(20000, length - offset) + 1))
            image.pwrite(data, start + offset)
            mine[offset : offset + len(data)] = data
            if rng.random() < 0.1:
                image.flush()
        if image.pread(length, start) != mine:
            wrong.append(part)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_still_open_at_exit_is_flushed_and_closed(path: Path) -> None:
    program = "import fvd, sys; image = fvd.open(sys.argv[1], 'r+'); image.pwrite(b'kept', 5000)"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    assert fvd.info(path)["dirty-flag"] is False
    with fvd.open(path) as image:
        assert image.pread(4, 5000) == b"kept"


def test_an_unclosed_image_warns_and_is_closed(path: Path) -> None:
    image = fvd.open(path, "r+")
    image.pwrite(b"kept", 5000)
    holder = [image]
    del image
    with pytest.warns(ResourceWarning, match="unclosed image"):
        holder.clear()
    with fvd.open(path) as image:
        assert image.pread(4, 5000) == b"kept"


def test_the_file_object_works_with_tarfile_and_copyfileobj(image: fvd.Image, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello")
    with image.file() as file, tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(tmp_path / "hello", "hello")
    with image.file() as file, tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("hello")
        assert member is not None
        assert member.read() == b"hello"
    copy = io.BytesIO()
    with image.file() as file:
        shutil.copyfileobj(file, copy)
    assert copy.getvalue() == image.pread(image.size, 0)


def test_extents_tell_what_is_stored_and_cover_the_disk(image: fvd.Image) -> None:
    image.pwrite(b"x" * 4096, 65536)
    extents = image.extents()
    assert sum(extent["length"] for extent in extents) == image.size
    stored = [extent for extent in extents if extent["data"]]
    assert [(extent["start"], extent["depth"]) for extent in stored] == [(65536, 0)]
    assert image.extents(0, 65536) == [extents[0]]


@pytest.mark.parametrize("misuse", ["pread(1, 1 << 60)", "pwrite(b'1', 1 << 60)"])
def test_an_exception_outlives_the_unclosed_image_that_raised_it(path: Path, misuse: str) -> None:
    code = f"""
import sys, warnings, fvd
warnings.simplefilter(sys.argv[2])
try:
    fvd.open(sys.argv[1], "r+").{misuse}
except ValueError:
    print("ValueError")
"""
    for warnings in ("default", "error", "ignore"):
        command = [sys.executable, "-c", code, str(path), warnings]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout == "ValueError\n"
        assert ("unclosed image" in result.stderr) == (warnings != "ignore")
    assert not fvd.info(path)["dirty-flag"]


def test_a_forked_child_leaves_the_image_to_its_parent(path: Path) -> None:
    code = """
import os, sys, fvd
image = fvd.open(sys.argv[1], "r+")
image.pwrite(b"flushed", 0)
image.flush()
if os.fork() == 0:
    sys.exit()
os.wait()
assert fvd.info(sys.argv[1], force_share=True)["dirty-flag"]
image.pwrite(b"more", 1 << 20)
image.flush()
os.kill(os.getpid(), 9)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == -9, result.stderr
    assert fvd.info(path)["dirty-flag"]
    with fvd.open(path) as image:
        assert image.pread(7, 0) == b"flushed"
        assert image.pread(4, 1 << 20) == b"more"
