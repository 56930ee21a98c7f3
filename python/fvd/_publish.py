"""`fvd.publish`."""

from __future__ import annotations

from fvd import _fvd as _core
from fvd._disks import is_path, of_core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fvd._disks import Disk
    from fvd._remote import Remote
    from fvd.types import BaseError, Format, Progress, PublishResult, StrPath


def publish(
    source: Disk,
    target: StrPath,
    *,
    source_format: Format | None = None,
    as_is: bool = False,
    profile: StrPath | None = None,
    profile_only: bool = False,
    force: bool = False,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = (),
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> PublishResult:
    """Publish a disk as a template: its bytes, a manifest that says what they must be, and a boot profile.

    `target` is the name of an object in a store (`s3://BUCKET/KEY`, `gs://`, `az://`), or the path of a file,
    which any web server can offer. A target that ends with `/`, or is a folder, gets the name of the source.
    The manifest is written last, at `target` with `.fvd-manifest` after it; so what is published in part is
    no template. Images that are made on the template (`create(backing_file=...)`) check every byte with it.

    `source` is a file, an open image or a source in Python (see `source`); its disk is published as raw
    bytes. With `as_is` the bytes of the file are published instead, such as those of a compressed qcow2
    image. Nothing may write to it meanwhile.

    `profile` is a file that `export_profile` has written, or an image that has a profile; without it, the
    profile of `source` is used if there is one. New images on the template fetch what it names first. With
    `profile_only` nothing but the profile is written, and `source` takes the place of `profile`.

    The same disk again changes nothing (`written` is False). An upload that was killed goes on. Another
    template, or something else, of that name is replaced only with `force`: images that stand on it can
    then no longer be read. `progress` counts what is read and what is written. `base_error`,
    `base_timeout`, `force_share`, `trust` and `cache_dir` are those of `open`, for `source`; `remote` is, for
    both.

    Raises `ValueError` if the name is in use or an argument is invalid, `UnsupportedError` for a target that
    cannot be written to, and `IoError` if the store refuses, or the source changes meanwhile.

    ```pycon
    >>> done = fvd.publish("base.raw", "template.raw")
    >>> done["size"], done["data"], done["written"]
    (1048576, 262144, True)
    >>> fvd.publish("base.raw", "template.raw")["written"]
    False
    ```
    """
    if profile_only:
        if as_is or source_format or profile is not None:
            raise ValueError("with profile_only, source is what has the profile, and nothing else is given")
        if not is_path(source):
            raise ValueError("with profile_only, source is a file: a profile or an image")
        return _core.publish_profile(target, _entries(source), remote=remote)  # type: ignore[arg-type]  # it is a path
    if as_is:
        if source_format not in (None, "raw"):
            raise ValueError("as_is publishes the bytes of a file, whatever its format is")
        source_format = "raw"
    entries = _entries(profile) if profile is not None else _own_entries(source, source_format)
    return _core.publish(
        of_core(source),
        target,
        source_format=source_format,
        profile=entries,
        force=force,
        base_error=base_error,
        base_timeout=base_timeout,
        force_share=force_share,
        trust=trust,
        cache_dir=cache_dir,
        remote=remote,
        progress=progress,
    )


def _entries(path: StrPath) -> list[tuple[int, int]]:
    """Return the profile in a file: of an image, or as `export_profile` writes it."""
    with open(path, "rb") as file:
        start = file.read(1)
    if start != b"{":
        return _core.profile(path)["entries"]
    from fvd import _profile

    return _profile.read_file(path)


def _own_entries(source: Disk, format: str | None) -> list[tuple[int, int]] | None:
    """Return the profile that a source has itself."""
    if format not in (None, "fvd") or not is_path(source):
        return None
    try:
        entries = _core.profile(source, force_share=True)["entries"]  # type: ignore[arg-type]  # it is a path
    except _core.FvdError:
        # It is no image; or if it cannot be read, the core says so.
        return None
    return entries or None
