"""A disk as a file object, for code that wants `read`, `write` and `seek`."""

from __future__ import annotations

import errno
import io
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never

    from typing_extensions import Buffer

    from fvd._fvd import Image

BUFFER_SIZE = 128 * 1024


class ImageFile(io.RawIOBase):
    """Unbuffered file object over an open image.

    Its length is the size of the virtual disk and never changes. Closing it leaves the image open. As for any
    file, `flush()` does not make data durable; `Image.flush()` does.
    """

    def __init__(self, image: Image) -> None:
        """Start at offset 0 of `image`."""
        self._image = image
        self._position = 0

    @property
    def name(self) -> str:
        """The path of the image."""
        return self._image.path

    @property
    def mode(self) -> str:
        """`rb`, or `rb+` if the image is writable."""
        return "rb+" if self._image.writable else "rb"

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """Tell whether the image was opened for writing."""
        self._check_open()
        return self._image.writable

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`, counted from the start, the position or the end. It may be beyond the end."""
        self._check_open()
        if whence == os.SEEK_SET:
            position = offset
        elif whence == os.SEEK_CUR:
            position = self._position + offset
        elif whence == os.SEEK_END:
            position = self._image.size + offset
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Buffer) -> int:
        """Read up to the end of the disk. Returns 0 at the end."""
        self._check_open()
        with memoryview(buffer) as whole, whole.cast("B") as view:
            count = self._inside(len(view))
            if count == 0:
                return 0
            with view[:count] as part:
                done = self._image.readinto(part, self._position)
        self._position += done
        return done

    def write(self, buffer: Buffer) -> int:
        """Write as much as fits before the end of the disk. Raises ENOSPC at the end."""
        self._check_open()
        if not self._image.writable:
            raise io.UnsupportedOperation("write")
        with memoryview(buffer) as whole, whole.cast("B") as view:
            if len(view) == 0:
                return 0
            count = self._inside(len(view))
            if count == 0:
                raise OSError(errno.ENOSPC, "The disk ends here", self._image.path)
            with view[:count] as part:
                done = self._image.pwrite(part, self._position)
        self._position += done
        return done

    def truncate(self, size: int | None = None) -> int:
        """Refuse: the size of a disk cannot change this way."""
        raise io.UnsupportedOperation("truncate")

    def _inside(self, count: int) -> int:
        return max(0, min(count, self._image.size - self._position))

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")


class _Reader(io.BufferedReader):
    """A buffered file object over a read-only image."""


class _Random(io.BufferedRandom):
    """A buffered file object over a writable image."""


def _refuse(file: io.BufferedReader | io.BufferedRandom, *_: Any) -> Never:
    """Raise the error that every operation on the image raises in a forked child."""
    raw = file.raw
    assert isinstance(raw, ImageFile)
    raw._image.pread(0, 0)
    raise AssertionError("the image has not refused a forked child")


def _close_without_flush(file: io.BufferedReader | io.BufferedRandom) -> None:
    """Close without a flush: the buffered data belongs to the parent."""
    file.raw.close()


_OPERATIONS = [
    *["__iter__", "__next__", "detach", "flush", "peek", "read", "read1", "readinto", "readinto1"],
    *["readline", "readlines", "seek", "tell", "truncate", "write", "writelines"],
]
_CHILD_METHODS = dict.fromkeys(_OPERATIONS, _refuse) | {"close": _close_without_flush}

# The classes that these objects get in a forked child. The C code of the original classes would wait for a
# lock that a thread of the parent may hold.
_IN_CHILD = {cls: type(cls.__name__, (cls,), dict(_CHILD_METHODS)) for cls in (_Reader, _Random)}

_files: weakref.WeakSet[_Reader | _Random] = weakref.WeakSet()


def _replace_classes_in_child() -> None:
    for file in _files:
        file.__class__ = _IN_CHILD.get(type(file), type(file))


os.register_at_fork(after_in_child=_replace_classes_in_child)


def image_file(image: Image, buffering: int = BUFFER_SIZE) -> io.BufferedReader | io.BufferedRandom:
    """Return a buffered file object over `image`: a `BufferedRandom` if it is writable."""
    raw = ImageFile(image)
    file = _Random(raw, buffering) if raw.writable() else _Reader(raw, buffering)
    _files.add(file)
    return file
