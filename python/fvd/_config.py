"""The directories and prefixes of URLs that the user trusts.

They come from `--trust`, then `FVD_TRUST`, then the configuration file.

Only the command line reads these. The Python API uses only its argument `trust=`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConfigError(ValueError):
    """The configuration cannot be used; the message says which source is wrong."""


def trusted_directories(command_line: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Return every trusted directory and URL once, in the order of the sources.

    Raises `ConfigError` if one of the three sources is wrong.
    """
    environ = os.environ if environ is None else environ
    found = [*_from_command_line(command_line), *_from_environment(environ), *_from_file(environ)]
    return list(dict.fromkeys(found))


def config_path(environ: Mapping[str, str]) -> str | None:
    """Return the path of the configuration file, whether or not it exists; None if there cannot be one.

    An empty `FVD_CONFIG` means no file. A relative `XDG_CONFIG_HOME` is ignored, as its specification
    requires.
    """
    named = environ.get("FVD_CONFIG")
    if named is not None:
        return named or None
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".config")
    return os.path.join(base, "fvd", "config.toml")


def is_url(text: str) -> bool:
    """Tell whether the text is a URL, and not a path: it begins with a scheme and `://`."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and _is_scheme(scheme)


def split_trust(text: str) -> list[str]:
    """Return the entries of `FVD_TRUST`: absolute paths and URLs, separated by colons.

    The colons of a URL do not separate: the one after its scheme, those of an IPv6 address, and one before
    anything but a path, such as a port. A colon before a slash is written `%3A`.

    >>> split_trust("/a:https://x.org:8443/y:/b")
    ['/a', 'https://x.org:8443/y', '/b']
    """
    entries: list[str] = []
    pieces = text.split(":")
    for at, piece in enumerate(pieces):
        last = entries[-1] if entries else ""
        is_after_scheme = piece.startswith("//") and _is_scheme(last)
        is_in_address = is_url(last) and last.rfind("[") > last.rfind("]")
        begins_url = _is_scheme(piece) and pieces[at + 1 : at + 2] and pieces[at + 1].startswith("//")
        is_part = is_url(last) and piece and not piece.startswith("/") and not begins_url
        if is_after_scheme or is_in_address or is_part:
            entries[-1] = f"{last}:{piece}"
        elif piece:
            entries.append(piece)
    return entries


def _is_scheme(text: str) -> bool:
    return text[:1].isalpha() and all(char.isalnum() or char in "+-." for char in text) and text.isascii()


def _is_absolute(entry: str) -> bool:
    return is_url(entry) or os.path.isabs(entry)


def _from_command_line(directories: Sequence[str]) -> list[str]:
    for directory in directories:
        if not is_url(directory) and not os.path.isdir(directory):
            raise ConfigError(f"--trust '{directory}': Not a directory")
    return [entry if is_url(entry) else os.path.abspath(entry) for entry in directories]


def _from_environment(environ: Mapping[str, str]) -> list[str]:
    directories = split_trust(environ.get("FVD_TRUST", ""))
    for directory in directories:
        # A relative path would mean a different place in every working directory.
        if not _is_absolute(directory):
            raise ConfigError(f"FVD_TRUST: '{directory}' is not an absolute path")
    return _present(directories)


def _from_file(environ: Mapping[str, str]) -> list[str]:
    path = config_path(environ)
    if path is None:
        return []
    # The default file may be missing. A file named by `FVD_CONFIG` may not.
    content = _read(path, required="FVD_CONFIG" in environ)
    for key in content:
        if key != "trust":
            raise ConfigError(f"{path}: unknown key '{key}'")
    directories = content.get("trust", [])
    if not isinstance(directories, list) or not all(isinstance(entry, str) for entry in directories):
        raise ConfigError(f"{path}: 'trust' must be an array of strings")
    for directory in directories:
        if not _is_absolute(directory):
            raise ConfigError(f"{path}: 'trust': '{directory}' is not an absolute path")
    return _present(directories)


def _present(directories: list[str]) -> list[str]:
    """Leave out directories that do not exist at the moment, such as an unmounted share."""
    return [entry for entry in directories if is_url(entry) or os.path.exists(entry)]


def _read(path: str, *, required: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise ConfigError(f"Could not open '{path}': {error.strerror}") from None
        return {}
    except OSError as error:
        raise ConfigError(f"Could not open '{path}': {error.strerror}") from None
    # Imported late: most users have no such file.
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
