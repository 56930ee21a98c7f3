"""The option `--base-url`: URLs, such as presigned ones, to read remote files from.

They come from a file. A URL with a signature is a secret, and every user of a machine can see the command
lines of all processes.
"""

from __future__ import annotations

import os
import sys

from fvd.cli._common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fvd import Remote

_SCHEMES = ("http", "https", "s3", "gs", "az")


def remote(file: str) -> Remote:
    """Return the URLs of a file for `remote=`."""
    import fvd

    urls = _Urls(file)
    prefixes = urls.names or [f"{scheme}://" for scheme in _SCHEMES]
    return fvd.Remote(url=dict.fromkeys(prefixes, urls))


class _Urls:
    """The URLs of a file, which is read again whenever one is needed: another program may renew it."""

    def __init__(self, file: str) -> None:
        from fvd._config import is_url

        if is_url(file):
            raise CommandError("--base-url: a file with the URL is needed: a command line is no secret")
        self._file = file
        self._text = sys.stdin.read() if file == "-" and sys.stdin is not None else ""
        # The name that a URL without one is for: the first one that is asked for.
        self._only: str | None = None
        try:
            urls = self._read()
        except OSError as error:
            raise CommandError(f"--base-url: Could not open '{file}': {error.strerror}") from None
        if not urls:
            raise CommandError(f"--base-url: '{file}' has no URL")
        if None in urls and len(urls) > 1:
            raise CommandError(f"--base-url: '{file}' has several lines: each needs a name and a URL")
        self.names = [name.partition("?")[0] for name in urls if name is not None]

    def __call__(self, name: str) -> str:
        """Return the URL for the object of this name. Raises `Explained` if there is none."""
        urls = self._read()
        for known in (name, name.partition("?")[0]):
            if known in urls:
                return urls[known]
        if self._only is None:
            self._only = name
        if self._only != name or None not in urls:
            # Imported late: most commands do without.
            from fvd._remote import Explained

            raise Explained(f"has no URL for {name}: write 'NAME URL' into a line for each")
        return urls[None]

    def _read(self) -> dict[str | None, str]:
        if self._file != "-" and (not self._text or os.path.isfile(self._file)):
            with open(self._file, encoding="utf-8") as file:
                # A pipe can be read once.
                self._text = file.read()
        from fvd._config import is_url

        urls: dict[str | None, str] = {}
        for number, line in enumerate(self._text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) > 2 or not all(map(is_url, words)):
                raise CommandError(f"--base-url: line {number} is neither a URL nor a name and a URL")
            urls[words[0] if len(words) == 2 else None] = words[-1]
        return urls
