"""Sources: disks that Python code reads."""

from collections.abc import Awaitable
from typing import Protocol

from typing_extensions import Buffer


class BinaryFile(Protocol):
    """A seekable binary file, as far as `fvd.source` needs it.

    ```pycon
    >>> file: BinaryFile = open("base.raw", "rb")
    >>> fvd.compare(file, "base.raw", a_format="raw", b_format="raw")["identical"]
    True
    ```
    """

    def seek(self, offset: int, whence: int = ..., /) -> object:
        """Set the position, in bytes from the start, or with `whence` 2 from the end.

        ```pycon
        >>> with open("base.raw", "rb") as file:
        ...     file.seek(0, 2)
        1048576
        ```
        """

    def tell(self) -> int:
        """Return the position, in bytes.

        ```pycon
        >>> with open("base.raw", "rb") as file:
        ...     file.tell()
        0
        ```
        """

    def read(self, length: int = ..., /) -> bytes | None:
        """Return at most `length` bytes from the position on; none only at the end.

        ```pycon
        >>> with open("base.raw", "rb") as file:
        ...     file.read(8)
        b'basebase'
        ```
        """


class Source(Protocol):
    """What an object needs to be read as a disk: a size, and `pread`. `fvd.source` makes one of a file.

    The content must not change. The calls come from threads of their own. These attributes are optional:

    - `threads`: how many calls are permitted at once, 1 to 32. By default 1, so nothing must be thread-safe.
    - `extents(offset, length)`: which parts read as zeros. Dictionaries as those of `fvd.Image.extents`, in
      order, of which `start`, `length` and `zero` count. What none of them names is data.
    - `identity`: a text that tells this content from others, such as an ETag.
    - `name`: a name for messages.

    ```pycon
    >>> class Ones:
    ...     size = 1 << 20
    ...
    ...     def pread(self, length: int, offset: int) -> bytes:
    ...         return b"\\1" * length
    >>> source: Source = Ones()
    >>> with fvd.serve(source, socket="ones.sock") as server:
    ...     fvd.compare(server.uri, Ones(), a_format="raw", b_format="raw")["identical"]
    True
    ```
    """

    @property
    def size(self) -> int:
        """The size of the disk in bytes. Without this attribute it is the length of the object (`len`).

        ```pycon
        >>> import io
        >>> fvd.source(io.BytesIO(b"base")).size
        4
        ```
        """

    def pread(self, length: int, offset: int, /) -> Buffer:
        """Return exactly the `length` bytes (more than 0) from `offset`. They lie within the disk.

        ```pycon
        >>> import io
        >>> fvd.source(io.BytesIO(b"base")).pread(2, 1)
        b'as'
        ```
        """


class AsyncSource(Protocol):
    """As `Source`, with coroutines: `pread`, and `extents` if there is one. For `fvd.aio.open`.

    Any number of calls can be in flight at once. A call is cancelled if its reader is.

    ```pycon
    >>> class Zeros:
    ...     size = 1 << 20
    ...
    ...     async def pread(self, length: int, offset: int) -> bytes:
    ...         return bytes(length)
    >>> source: AsyncSource = Zeros()
    >>> async with fvd.aio.open("overlay.fvd", base=source) as image:
    ...     await image.pread(4, 0)
    b'\\x00\\x00\\x00\\x00'
    ```
    """

    @property
    def size(self) -> int:
        """The size of the disk in bytes.

        ```pycon
        >>> class Zeros:
        ...     size = 1 << 20
        ...
        ...     async def pread(self, length: int, offset: int) -> bytes:
        ...         return bytes(length)
        >>> Zeros.size
        1048576
        ```
        """

    def pread(self, length: int, offset: int, /) -> Awaitable[Buffer]:
        """Return exactly the `length` bytes (more than 0) from `offset`. They lie within the disk.

        ```pycon
        >>> class Zeros:
        ...     size = 1 << 20
        ...
        ...     async def pread(self, length: int, offset: int) -> bytes:
        ...         return bytes(length)
        >>> await Zeros().pread(2, 1)
        b'\\x00\\x00'
        ```
        """
