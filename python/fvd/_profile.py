"""`fvd.profile` and its kin: what an image fetches first, shown and carried from one to others."""

from __future__ import annotations

from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd.types import ImportedProfile, Profile, StrPath


def profile(path: StrPath, *, force_share: bool = False) -> Profile:
    """Return the prefetch profile of an image: what a session needs of its base first.

    Opens nothing that the image names. An image without room for a profile has a `capacity` of 0.
    """
    return _core.profile(path, force_share=force_share)


def export_profile(path: StrPath, target: StrPath, *, force_share: bool = False) -> Profile:
    """Write the prefetch profile of an image to the file `target`, and return it.

    The file is small JSON text; `import_profile` gives it to other images with the same base.
    """
    from fvd._profile_file import write_file

    exported = profile(path, force_share=force_share)
    write_file(target, exported)
    return exported


def import_profile(path: StrPath, source: StrPath) -> ImportedProfile:
    """Give an image the prefetch profile in the file `source`, in place of any that it has.

    Entries are cut to the disk of the image and to the room that it has; it gets some when it is created
    (`prefetch_profile_size`). Raises ValueError, and changes nothing, where it has none or the file is no
    profile.
    """
    from fvd._profile_file import read_file

    return _core.set_profile(path, read_file(source))


def clear_profile(path: StrPath) -> None:
    """Remove the prefetch profile of an image. The next session records one, if the image is to have one."""
    _core.set_profile(path, ())
