"""The counters of a server."""

from typing import TypedDict

from fvd.types._prefetch import PrefetchStatus


class ExportStats(TypedDict):
    """The state of one disk of a server.

    ```pycon
    >>> with fvd.serve({"system": "overlay.fvd"}) as server:
    ...     server.stats()["exports"]["system"]["prefetch"]["state"]
    'waiting'
    ```
    """

    image: dict[str, int] | None
    """Counters since it was opened. None for a disk that is not an FVD image."""
    prefetch: PrefetchStatus | None
    """None if the disk has no base to copy from."""


class ConnectionCounts(TypedDict):
    """Numbers of connections of a server.

    ```pycon
    >>> with fvd.serve("disk.fvd") as server:
    ...     server.stats()["connections"]
    {'now': 0, 'total': 0, 'refused': 0, 'failed': 0}
    ```
    """

    now: int
    total: int
    """Served since the start."""
    refused: int
    """Closed on arrival, because there were too many."""
    failed: int
    """Ended by an error."""


class RequestCounts(TypedDict):
    """Requests of one kind since the start of a server.

    ```pycon
    >>> with fvd.serve("disk.fvd") as server:
    ...     server.stats()["requests"]["write-zeroes"]
    {'requests': 0, 'bytes': 0, 'errors': 0}
    ```
    """

    requests: int
    bytes: int
    """Only of requests that succeeded."""
    errors: int


ServerStats = TypedDict(
    "ServerStats",
    {
        "connections": ConnectionCounts,
        "requests": dict[str, RequestCounts],
        "in-flight": int,
        "invalid": int,
        "polled": int,
        "exports": dict[str, ExportStats],
    },
)
"""What a server has done. `requests`: by the names that the protocol gives them. `invalid`: requests that
were not valid (out of bounds, unknown); no other count includes them. `polled`: requests that arrived during
polling, so that no thread had to be woken. `exports`: by the names of the exports; a single disk has the
empty name.

```pycon
>>> with fvd.serve("disk.fvd") as server:
...     stats = server.stats()
>>> list(stats["requests"])
['read', 'write', 'flush', 'trim', 'cache', 'write-zeroes', 'block-status']
```
"""
