"""Fast Virtual Disk images: create, open, read, write, check and convert.

```pycon
>>> import fvd
>>> made = fvd.create("disk.fvd", "64M")
>>> with fvd.open("disk.fvd", "r+") as image:
...     image.pwrite(b"hello", 1 << 20)
...     image.flush()
5
```

Sizes, offsets and lengths are in bytes. Reads and writes need no alignment. The largest disk has
2^63 - 512 bytes.

An image can contain names of other files: its base and its data file. These files are opened only if they are
in the image's own directory or below it and not hidden there, or in a directory given as `trust=`. This
package does not read the environment or a configuration file; only the command line does.

Errors are `FvdError`, a subclass of `OSError`, with one subclass for each kind. Every function that opens
a file can raise `IoError`, also if the file does not exist, `InUseError` if another process has a conflicting
lock, and `InvalidImageError` if the file is not a valid image. Functions that open files which an image names
can raise `NotPermittedError`. An invalid argument raises `ValueError`, also a number outside its
range, and one of a wrong type `TypeError`. The version of the package is `fvd.__version__`.

The examples of this reference run as they are in a directory with `base.raw`, a raw disk of 1 MiB that begins
with the word `base`, and two new images:

```pycon
>>> made = fvd.create("disk.fvd", "64M")
>>> made = fvd.create("overlay.fvd", backing_file="base.raw", backing_format="raw")
```

In the examples of the methods of `Image`, `image` is `disk.fvd`, open for reading and writing. In those of
`Server`, `server` serves that image on the Unix socket `nbd.sock`. In those of `Remote`, `remote` is one
without functions. In those of a module (`fvd.options`, `fvd.types`), its names have been imported.
`python -m asyncio` is an interactive Python that accepts the `await` of the examples of `fvd.aio`.
"""

from fvd._fvd import (
    DEBUG_BUILD as _DEBUG_BUILD,
)
from fvd._fvd import (
    FvdError,
    Image,
    InUseError,
    InvalidImageError,
    IoError,
    NoSpaceError,
    NotPermittedError,
    PoisonedError,
    UnsupportedError,
    __version__,
    check,
    dump,
    info,
    map,
    profile,
    remote_status,
    stats,
)

# Importing `typing` takes a third of the time of `fvd --version`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd._amend import amend
    from fvd._cache import Cache
    from fvd._commit import commit
    from fvd._compare import compare
    from fvd._convert import convert
    from fvd._create import create
    from fvd._logging import enable_logging
    from fvd._measure import measure
    from fvd._open import open
    from fvd._profile import clear_profile, export_profile, import_profile
    from fvd._publish import publish
    from fvd._rebase import rebase
    from fvd._remote import Remote
    from fvd._serve import Server, serve
    from fvd._sources import source

__all__ = [
    "Cache",
    "FvdError",
    "Image",
    "InUseError",
    "InvalidImageError",
    "IoError",
    "NoSpaceError",
    "NotPermittedError",
    "PoisonedError",
    "Remote",
    "Server",
    "UnsupportedError",
    "__version__",
    "amend",
    "check",
    "clear_profile",
    "commit",
    "compare",
    "convert",
    "create",
    "dump",
    "enable_logging",
    "export_profile",
    "import_profile",
    "info",
    "map",
    "measure",
    "open",
    "profile",
    "publish",
    "rebase",
    "remote_status",
    "serve",
    "source",
    "stats",
]

# Tracebacks, `help` and pickles show the module that users import.
for _function in (check, dump, info, map, profile, remote_status, stats):
    _function.__module__ = __name__

if not TYPE_CHECKING:
    # The modules of the other names are imported when they are first used: a command needs one of them.
    _MODULES = {
        "Cache": "_cache",
        "Remote": "_remote",
        "Server": "_serve",
        "amend": "_amend",
        "clear_profile": "_profile",
        "commit": "_commit",
        "compare": "_compare",
        "convert": "_convert",
        "create": "_create",
        "enable_logging": "_logging",
        "export_profile": "_profile",
        "import_profile": "_profile",
        "measure": "_measure",
        "open": "_open",
        "publish": "_publish",
        "rebase": "_rebase",
        "serve": "_serve",
        "source": "_sources",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = __import__(f"{__name__}.{_MODULES[name]}", fromlist=[name])
        exported = globals()[name] = getattr(module, name)
        exported.__module__ = __name__
        return exported

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


if _DEBUG_BUILD:
    import warnings

    warnings.warn("fvd: this is a debug build, many times slower than a release build", RuntimeWarning, 2)
    del warnings
