"""`fvd.Remote`: credentials and URLs from Python code."""

from __future__ import annotations

import inspect
import os
from datetime import UTC, datetime

from fvd import _calls
from fvd import _fvd as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fvd.types import Credentials, SignedUrl

    Pairs = list[tuple[str, str]]
    Issued = tuple[Pairs, float | None] | str
    """Names and values, and the time when they expire; or what is wrong."""

_KEYS = ("AccessKeyId", "SecretAccessKey", "SessionToken")
_NEEDED = _KEYS[:2]


class Remote:
    """Credentials and URLs for files on other machines, from functions of the program.

    Pass it as `remote=` to `open`, `fvd.aio.open`, `create`, `amend`, `convert`, `compare`, `serve`, `info`
    and `map`. Each argument maps prefixes of URLs to functions. A prefix is for the URLs below it, up to the
    end of a part of the path, and the longest one decides. What none of them is for comes from the
    configuration.

    - `headers`: a function without arguments returns the headers of requests to the host of the URL, such as
      `{"Authorization": "Bearer ..."}`.
    - `credentials`: a function without arguments returns what a credential helper prints (docs/remote.md).
      For `s3://` these are `AccessKeyId`, `SecretAccessKey` and perhaps `SessionToken`; for all others
      `token`, or `headers`. With `Expiration` (a time in ISO format, a `datetime`, or seconds since 1970),
      new ones are asked for before that time.
    - `url`: a function gets the name of an object, and returns the URL to read it from: a presigned one,
      which no header goes along with. It can also return `{"url": ..., "Expiration": ...}`. Images and
      messages show only the name.

    A function is called when the first request needs it, again before what it gave expires, and when the
    server refuses that (401, 403): once for all reads that wait. It has 10 s. The functions of a `Remote` are
    called one at a time, in a thread of their own, and are no coroutines. If one raises an exception, or
    returns something else, it counts as a failure of the server: opening fails, and reads wait or fail
    (`base_error`). The messages name the class of the exception, never what it says; `failure` is the last
    one.

    Opens with the same `Remote` share connections, data in memory and credentials. A forked child can use it,
    too: it calls the functions itself.

    Raises `TypeError` for what is no function, and for coroutines; `ValueError` for what is no URL.

    ```pycon
    >>> remote = fvd.Remote(
    ...     headers={"https://images.example.org": lambda: {"Authorization": "Bearer 0123"}},
    ...     url={"s3://images/private": lambda name: "https://images.s3.amazonaws.com/...?X-Amz-Signature=..."},
    ... )
    >>> remote
    <fvd.Remote for https://images.example.org, s3://images/private>
    >>> with fvd.open("disk.fvd", remote=remote) as image:
    ...     image.pread(4, 0)
    b'\\x00\\x00\\x00\\x00'
    ```
    """

    __slots__ = ("__weakref__", "_failures", "_functions", "_hooks", "_process")

    def __init__(
        self,
        *,
        headers: Mapping[str, Callable[[], Mapping[str, str]]] | None = None,
        credentials: Mapping[str, Callable[[], Credentials]] | None = None,
        url: Mapping[str, Callable[[str], str | SignedUrl]] | None = None,
    ) -> None:
        """Nothing is called yet."""
        self._functions: list[tuple[str, str, Callable[..., object]]] = []
        self._failures: list[Exception] = []
        given: list[tuple[str, Mapping[str, Callable[..., object]] | None]] = [
            ("headers", headers),
            ("credentials", credentials),
            ("url", url),
        ]
        for kind, functions in given:
            for prefix, function in (functions or {}).items():
                self._add(kind, prefix, function)
        self._hooks: _core.RemoteHooks | None = None
        self._process = 0

    def _add(self, kind: str, prefix: str, function: object) -> None:
        from fvd._config import is_url

        if not is_url(prefix) or "@" in prefix or "?" in prefix:
            raise ValueError("a prefix is a URL without a user, a password and a query")
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{prefix}: a function is needed, not {_kind(function)}")
        if kind == "credentials" and prefix.startswith("s3://"):
            kind = "keys"
        self._functions.append((kind, prefix, function))

    def _core(self) -> _core.RemoteHooks:
        """Return the functions in the form that the core accepts. From now on they are called."""
        if self._hooks is None or self._process != os.getpid():
            kinds = [(_KINDS[kind], prefix) for kind, prefix, _ in self._functions]
            hooks = _core.RemoteHooks(kinds)
            _calls.on_threads(hooks.calls, {"issue": _issuer(self._functions, self._failures)}, name="remote")
            self._hooks, self._process = hooks, os.getpid()
        return self._hooks

    @property
    def failure(self) -> Exception | None:
        """The last exception that one of the functions has raised; None if there was none.

        ```pycon
        >>> remote.failure is None
        True
        ```
        """
        return self._failures[-1] if self._failures else None

    def __repr__(self) -> str:
        """Return a text with the prefixes."""
        prefixes = ", ".join(dict.fromkeys(prefix for _, prefix, _ in self._functions))
        return f"<fvd.Remote for {prefixes or 'nothing'}>"


class Explained(Exception):
    """A failure of a function of this package, whose text may be shown: it has no secret in it."""


_KINDS = {"headers": "headers", "credentials": "headers", "keys": "keys", "url": "url"}


def _issuer(
    functions: Sequence[tuple[str, str, Callable[..., object]]], failures: list[Exception]
) -> Callable[[int, str], Issued]:
    """Return what the core calls: not a method of `Remote`, which would then live as long as its thread."""

    def issue(index: int, name: str) -> Issued:
        kind, _, function = functions[index]
        try:
            given = function(name) if kind == "url" else function()
        except Explained as error:
            return str(error)
        except Exception as error:
            failures[:] = [error]
            raise
        return _issued(kind, given)

    return issue


def _issued(kind: str, given: object) -> Issued:
    if kind == "url" and isinstance(given, str):
        given = {"url": given}
    if not hasattr(given, "items"):
        return f"returned {_kind(given)}, and not a mapping"
    values: dict[object, object] = dict(given.items())
    if kind == "headers":
        return _pairs(values, None)
    try:
        expires = _time(values.pop("Expiration", None))
    except (TypeError, ValueError):
        return "returned an 'Expiration' that is no time"
    if kind == "credentials":
        return _headers(values, expires)
    needed = ("url",) if kind == "url" else _NEEDED
    for name in needed:
        if not values.get(name):
            return f"returned no '{name}'"
    known = needed if kind == "url" else _KEYS
    return _pairs({name: values[name] for name in known if values.get(name) is not None}, expires)


def _headers(values: dict[object, object], expires: float | None) -> Issued:
    headers = values.get("headers") or {}
    if not hasattr(headers, "items"):
        return f"returned 'headers' that are {_kind(headers)}, and not a mapping"
    headers = dict(headers.items())
    if values.get("token") is not None:
        if not isinstance(values["token"], str):
            return f"returned a 'token' that is {_kind(values['token'])}, and not a str"
        headers["Authorization"] = f"Bearer {values['token']}"
    if not headers:
        return "returned neither 'headers' nor a 'token'"
    return _pairs(headers, expires)


def _pairs(values: dict[object, object], expires: float | None) -> Issued:
    pairs: Pairs = []
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return f"returned {_kind(name)} and {_kind(value)}, where a name and a value are two str"
        pairs.append((name, value))
    return pairs, expires


def _time(given: object) -> float | None:
    """Return the seconds since 1970. Raises TypeError or ValueError for what is no time."""
    if given is None:
        return None
    if isinstance(given, str):
        given = datetime.fromisoformat(given)
    if isinstance(given, datetime):
        # As AWS has them: without a zone it is UTC.
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    if isinstance(given, int | float):
        return float(given)
    raise TypeError


def _kind(given: object) -> str:
    return "a coroutine" if inspect.iscoroutinefunction(given) else type(given).__name__
