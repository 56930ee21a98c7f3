"""Sources: objects of Python that are read as disks. `fvd.source` makes one of a file."""

from __future__ import annotations

import inspect
import io
import os
import re
import threading

from fvd import _calls
from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fvd.types import AsyncSource, BinaryFile, Source

_MOST_THREADS = 32


class FileSource:
    """A seekable binary file as a source. `fvd.source` makes it."""

    def __init__(self, file: BinaryFile, size: int, name: str, identity: str | None) -> None:
        """`size` is in bytes."""
        self._file = file
        self._lock = threading.Lock()
        self.size = size
        self.name = name
        self.identity = identity

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes from `offset`. Raises `EOFError` if the file has become shorter."""
        parts = []
        with self._lock:
            self._file.seek(offset)
            while length > 0:
                part = self._file.read(length)
                if not part:
                    raise EOFError(f"the file ends at {self._file.tell()}, and had {self.size} bytes")
                parts.append(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __repr__(self) -> str:
        """Return a text with the name and the size."""
        return f"<fvd source {self.name!r}, {self.size} bytes>"


def source(file: BinaryFile, *, name: str | None = None, identity: str | None = None) -> FileSource:
    """Make a source of a seekable binary file: of `open(path, "rb")`, `io.BytesIO`, or a file of `fsspec`.

    A source is a disk that Python code reads: the base of an image (`base=` of `fvd.open` and
    `fvd.aio.open`), what `convert` and `compare` read, or an export of `serve`. A file can be given as it is;
    any other object with a size and `pread` is a source as well (see `fvd.types.Source`).

    The file is read from other threads, one read at a time, and must not be used for anything else meanwhile.
    It must not change. It stays open, and the caller closes it. `name` is for messages; by default, it is
    the last part of the name of the file. `identity` tells the content from others, such as the ETag of an
    object: if an image remembers which object its base is, the two must be the same.

    Raises `TypeError` for a file that is not binary, and what the file raises if it is not seekable.

    ```pycon
    >>> import io
    >>> disk = fvd.source(io.BytesIO(b"base" * 1024), name="memory")
    >>> fvd.convert(disk, "copy.raw", source_format="raw")["size"]
    4096
    >>> with open("base.raw", "rb") as file, fvd.open("overlay.fvd", base=file) as image:
    ...     image.pread(8, 0)
    b'basebase'
    ```
    """
    is_text = isinstance(file, io.TextIOBase)
    if is_text or not is_source(file):
        raise TypeError(f"a seekable binary file is needed, not {type(file).__name__}")
    # Not every `seek` returns the position.
    file.seek(0, os.SEEK_END)
    size = file.tell()
    named = getattr(file, "name", None) or getattr(file, "path", None)
    return FileSource(file, size, name or _last_part(named) or type(file).__name__, identity)


def is_source(candidate: object) -> bool:
    """Tell whether the object is a source, or a file that can be one."""
    return hasattr(candidate, "pread") or (hasattr(candidate, "seek") and hasattr(candidate, "read"))


def core_source(given: Source | AsyncSource | BinaryFile, *, is_async: bool = False) -> _core.Source:
    """Return the source in the form that the core accepts. From now on its calls are carried out.

    Raises `TypeError` for what is no source, and for one with coroutines unless `is_async`.
    """
    if not hasattr(given, "pread"):
        if not is_source(given):
            raise TypeError(f"a source is needed (an object with size and pread), not {type(given).__name__}")
        given = source(given)
    methods: dict[str, Any] = {"pread": given.pread}
    extents = getattr(given, "extents", None)
    if extents is not None:
        methods["extents"] = extents
    awaits = [inspect.iscoroutinefunction(method) for method in methods.values()]
    name = _last_part(getattr(given, "name", None)) or type(given).__name__
    if any(awaits):
        if not is_async:
            raise TypeError(f"{name}: a source with coroutines can only be used with fvd.aio.open")
        if not all(awaits):
            raise TypeError(f"{name}: either both pread and extents are coroutines, or neither")
    core = _core.Source(
        re.sub(r"[^A-Za-z0-9_-][^A-Za-z0-9._-]*", "-", name)[:64],
        _size(given, name),
        identity=_text(given, "identity", name),
        has_extents=extents is not None,
        event_loop=any(awaits),
    )
    if any(awaits):
        _calls.on_event_loop(core.calls, methods)
    else:
        _calls.on_threads(core.calls, methods, name=name, most=_threads(given, name))
    return core


def _size(given: object, name: str) -> int:
    size = getattr(given, "size", None)
    if size is None and hasattr(given, "__len__"):
        size = len(given)
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name}: a source has a size, which is a number of bytes, not {type(size).__name__}")
    return size


def _threads(given: object, name: str) -> int:
    most = getattr(given, "threads", 1)
    if not isinstance(most, int) or not 1 <= most <= _MOST_THREADS:
        raise ValueError(f"{name}: threads is how many calls a source permits at once: 1 to {_MOST_THREADS}")
    return most


def _text(given: object, attribute: str, name: str) -> str | None:
    text = getattr(given, attribute, None)
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{name}: {attribute} is a str or None, not {type(text).__name__}")
    return text or None


def _last_part(name: object) -> str:
    """Return the last part of a path or URL, without its query, which may be a secret."""
    if not isinstance(name, str | os.PathLike):
        return ""
    text = os.fsdecode(os.fspath(name))
    return text.partition("?")[0].rpartition("/")[2]
