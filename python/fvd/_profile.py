"""`fvd.profile` and related functions: the prefetch profile of an image, and its export and import."""

from __future__ import annotations

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import ImportedProfile, Profile, StrPath


def profile(path: StrPath, *, force_share: bool = False) -> Profile:
    """Return the prefetch profile of an image: what a session needs of its base first.

    Opens no file that the image names. An image without room for a profile has a `capacity` of 0.
    """
    return _core.profile(path, force_share=force_share)


def export_profile(path: StrPath, target: StrPath, *, force_share: bool = False) -> Profile:
    """Write the prefetch profile of an image to the file `target`, and return it.

    The file is a small JSON text, which `import_profile` can give to other images with the same base. Raises
    `ValueError` if `target` exists and is not a profile.
    """
    from fvd._profile_file import write_file

    exported = profile(path, force_share=force_share)
    write_file(target, exported)
    return exported


def import_profile(path: StrPath, source: StrPath) -> ImportedProfile:
    """Set the prefetch profile of an image from the file `source`. Replaces its present profile.

    Entries are cut to the disk of the image and to its room for a profile, which is reserved when the image
    is created (`prefetch_profile_size`). Raises `ValueError`, and changes nothing, if the image has no such
    room or if the file is not a profile.
    """
    from fvd._profile_file import read_file

    return _core.set_profile(path, read_file(source))


def clear_profile(path: StrPath) -> None:
    """Remove the prefetch profile of an image. The next session records a new one, if the image has that
    option.
    """
    _core.set_profile(path, ())
