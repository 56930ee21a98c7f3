"""Results of `create`, `convert`, `compare`, `commit`, `rebase` and `publish`."""

from typing import Literal, TypedDict

from fvd.types._options import OptionValue


class CommitResult(TypedDict):
    """The result of a commit. See `fvd.commit`.

    ```pycon
    >>> made = fvd.create("empty.fvd", backing_file="base.raw", backing_format="raw")
    >>> result: CommitResult = fvd.commit("empty.fvd")
    >>> result["size"], result["written"]
    (1048576, 0)
    ```
    """

    size: int
    """Of the disk, in bytes."""
    written: int
    """Bytes that were written to the base or zeroed there: those that differed."""


class CompareResult(TypedDict):
    """How two disks differ.

    ```pycon
    >>> fvd.compare("disk.fvd", "overlay.fvd", strict=True)
    {'identical': False, 'reason': 'size', 'offset': None, 'size_a': 67108864, 'size_b': 1048576}
    ```
    """

    identical: bool
    reason: Literal["content", "size", "status"] | None
    """`size` and `status` (known without reading) only in strict mode. None if identical."""
    offset: int | None
    """In bytes: the first sector whose content differs, or the first offset where the status differs. None
    for `size`.
    """
    size_a: int
    size_b: int


class CreateResult(TypedDict):
    """The image that was created. `size`, of its disk, is in bytes.

    ```pycon
    >>> fvd.create("new.fvd", "1M")
    {'filename': 'new.fvd', 'format': 'fvd', 'size': 1048576, 'options': {...}, 'needs_trust': []}
    ```
    """

    filename: str
    format: str
    size: int
    options: dict[str, OptionValue]
    """As used, including defaults, the base and its format, in the order to show them."""
    needs_trust: list[str]
    """Directories that must be trusted (`trust=`, `--trust`) before the image can be opened."""


class ConvertResult(TypedDict):
    """The result of a conversion.

    ```pycon
    >>> fvd.convert("overlay.fvd", "copy.fvd", format="fvd")
    {'format': 'fvd', 'size': 1048576}
    ```
    """

    format: str
    size: int
    """Size of the source's disk in bytes. An FVD image rounds it up to a multiple of 512."""


class PublishResult(TypedDict):
    """The template that was published. See `fvd.publish`.

    ```pycon
    >>> result: PublishResult = fvd.publish("base.raw", "published.raw")
    >>> len(result["manifest"]), result["profile_entries"]
    (64, None)
    ```
    """

    name: str
    """The path or the URL of the object."""
    manifest: str
    """The identity of the template: SHA-256 of the head of its manifest, in hexadecimal digits."""
    size: int
    """Of the object, in bytes."""
    data: int
    """Bytes of it that are not in a run of zeros, in whole chunks. 0 if only the profile was written."""
    written: bool
    """False: the object was published already, or only the profile was written."""
    profile_entries: int | None
    """Entries of the boot profile that was written; None: none was."""


class RebaseResult(TypedDict):
    """The result of a rebase. See `fvd.rebase`.

    ```pycon
    >>> made = fvd.create("alone.fvd", backing_file="base.raw", backing_format="raw")
    >>> result: RebaseResult = fvd.rebase("alone.fvd", None)
    >>> result["copied"]
    1048576
    ```
    """

    size: int
    """Of the disk, in bytes."""
    copied: int
    """Bytes that the image has got from its old base, zeros included."""
