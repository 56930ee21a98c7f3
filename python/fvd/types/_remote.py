"""What is known of stores."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict


class Outage(TypedDict):
    """A store that does not answer now.

    ```pycon
    >>> outage: Outage = {"store": "s3://images", "seconds": 42.0, "reason": "the server answered with 503"}
    ```
    """

    store: str
    """Scheme, and host or bucket. It has no credentials in it."""
    seconds: float
    """How long its requests have been failing."""
    reason: str
    """Why the last one did."""


class RemoteStatus(TypedDict):
    """What this process has asked of stores, for all its open files together. See `fvd.remote_status`.

    ```pycon
    >>> status: RemoteStatus = fvd.remote_status()
    >>> [outage["store"] for outage in status["outages"] if outage["seconds"] > 3600]
    []
    ```
    """

    requests: int
    """For data. Those of `retries` and `hedges` are among them."""
    bytes: int
    """Of data that have come, also those that came twice."""
    retries: int
    """Requests that were sent again after a failure."""
    hedges: int
    """Second requests for what a first one did not bring in time."""
    refreshes: int
    """Times that refused credentials were replaced."""
    waiting: int
    """Fetches that are in a pause after a failure now."""
    cache_found: int
    """Units (256 KiB) that were found in the host cache. Later reads of them are not counted."""
    cache_stored: int
    """Units that were stored in the host cache."""
    cache_damaged: int
    """Units in the host cache that were damaged, and fetched again."""
    cache_failures: int
    """Failures of the host cache. After each it is not used for a minute."""
    memory: int
    """Bytes of data in memory now."""
    stores: list[str]
    """All stores that were asked: scheme, and host or bucket."""
    outages: list[Outage]
    """Those that do not answer now. A failure is forgotten when the store has not been asked for a minute."""


class Credentials(TypedDict, total=False):
    """What a function for `fvd.Remote(credentials=...)` returns: keys for `s3://`, or a token or headers.

    ```pycon
    >>> def sign_in() -> Credentials:
    ...     return {"token": "0123", "Expiration": "2030-01-01T00:00:00Z"}
    >>> remote = fvd.Remote(credentials={"https://images.example.org": sign_in})
    ```
    """

    AccessKeyId: str
    """Of S3."""
    SecretAccessKey: str
    """Of S3."""
    SessionToken: str | None
    """Of S3, if the keys are temporary."""
    token: str
    """For `Authorization: Bearer`."""
    headers: Mapping[str, str]
    """Headers of requests to the host of the URL."""
    Expiration: str | datetime | float | None
    """The end of their life: ISO format, a `datetime`, or seconds since 1970. Without a zone it is UTC."""


class SignedUrl(TypedDict, total=False):
    """What a function for `fvd.Remote(url=...)` returns, if it knows until when the URL is valid.

    ```pycon
    >>> signed: SignedUrl = {"url": "https://x.org/disk.raw?sig=0123", "Expiration": 1893456000}
    ```
    """

    url: str
    """`http` or `https`."""
    Expiration: str | datetime | float | None
    """As in `Credentials`."""
