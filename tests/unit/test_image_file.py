"""The file object over a disk."""

import errno
import io
import shutil
import tarfile
from typing import Any, cast

import pytest

from cli.fake_core import FakeImage
from fvd._file import ImageFile, image_file


def over(image: FakeImage, buffering: int = 4096) -> Any:
    return image_file(cast("Any", image), buffering)


def test_it_reads_and_seeks_like_a_file() -> None:
    file = over(FakeImage(bytes(range(256)), writable=False))
    assert isinstance(file, io.BufferedReader)
    assert (file.seekable(), file.readable(), file.writable()) == (True, True, False)
    assert file.read(3) == b"\0\1\2"
    assert file.seek(-2, io.SEEK_END) == 254
    assert file.read() == b"\xfe\xff"
    assert file.read(1) == b""
    file.seek(1000)
    assert file.read() == b""


def test_it_writes_through_to_the_image() -> None:
    image = FakeImage(bytes(10_000))
    file = over(image)
    assert isinstance(file, io.BufferedRandom)
    file.seek(5_000)
    file.write(b"x" * 4_500)
    file.seek(4_999)
    assert file.read(3) == b"\0xx"
    file.flush()
    assert image.content == bytes(5_000) + b"x" * 4_500 + bytes(500)


def test_a_write_across_the_end_is_short_and_the_next_is_enospc() -> None:
    image = FakeImage(bytes(8))
    raw = ImageFile(cast("Any", image))
    raw.seek(5)
    assert raw.write(b"abcdef") == 3
    assert raw.write(b"") == 0
    with pytest.raises(OSError, match="The disk ends here") as raised:
        raw.write(b"def")
    assert raised.value.errno == errno.ENOSPC
    assert image.content == b"\0" * 5 + b"abc"


def test_a_buffered_write_beyond_the_end_has_no_space() -> None:
    file = over(FakeImage(bytes(8)))
    with pytest.raises(OSError, match="The disk ends here"):
        file.write(b"x" * 9000)


def test_wide_items_count_as_bytes() -> None:
    import array

    image = FakeImage(bytes(16))
    raw = ImageFile(cast("Any", image))
    assert raw.write(array.array("I", [1, 2])) == 8
    raw.seek(0)
    target = array.array("I", [0, 0])
    assert raw.readinto(target) == 8
    assert list(target) == [1, 2]


def test_closing_it_leaves_the_image_open() -> None:
    image = FakeImage(bytes(8))
    with over(image) as file:
        file.write(b"abc")
    assert image.content[:3] == b"abc"
    with pytest.raises(ValueError, match="closed file"):
        file.read(1)


def test_its_size_cannot_change_and_it_has_no_descriptor() -> None:
    file = over(FakeImage(bytes(8)))
    with pytest.raises(io.UnsupportedOperation):
        file.truncate(4)
    with pytest.raises(io.UnsupportedOperation):
        file.fileno()


def test_a_wrong_seek_is_refused() -> None:
    raw = ImageFile(cast("Any", FakeImage(bytes(8))))
    with pytest.raises(OSError, match="Invalid argument"):
        raw.seek(-1)
    with pytest.raises(ValueError, match="invalid whence"):
        raw.seek(0, 7)


def test_a_disk_opened_to_read_cannot_be_written() -> None:
    raw = ImageFile(cast("Any", FakeImage(bytes(8), writable=False)))
    with pytest.raises(io.UnsupportedOperation):
        raw.write(b"x")


def test_tarfile_and_copyfileobj_work_on_it() -> None:
    image = FakeImage(bytes(1 << 20))
    with over(image) as file, tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("hello")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"world"))
    with over(image) as file, tarfile.open(fileobj=file) as archive:
        extracted = archive.extractfile("hello")
        assert extracted is not None
        assert extracted.read() == b"world"
    copy = io.BytesIO()
    shutil.copyfileobj(over(image), copy)
    assert copy.getvalue() == image.content
