"""The compiled core (Rust). `fvd` exports its public names again."""

import io
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, final, overload

from typing_extensions import Buffer

from fvd._remote import Remote
from fvd.options import Kind
from fvd.types import (
    Aio,
    BaseError,
    CacheCheck,
    CacheMode,
    CacheObject,
    CheckResult,
    CommitResult,
    CompareResult,
    ConvertResult,
    CreateResult,
    DetectZeroes,
    Discard,
    DiskStats,
    Dump,
    Extent,
    Format,
    ImageInfo,
    ImportedProfile,
    OptionValue,
    PrefetchProgress,
    PrefetchStatus,
    Profile,
    Progress,
    PublishResult,
    RebaseResult,
    RemoteStatus,
    Repair,
    ServerStats,
    StrPath,
    TargetFormat,
)

__all__ = [
    "DEBUG_BUILD",
    "AsyncImage",
    "Call",
    "Calls",
    "FvdError",
    "Image",
    "InUseError",
    "InvalidImageError",
    "IoError",
    "NoSpaceError",
    "NotPermittedError",
    "PoisonedError",
    "RemoteHooks",
    "Server",
    "Source",
    "UnsupportedError",
    "__version__",
    "amend",
    "amend_aliases",
    "amend_options",
    "cache_list",
    "cache_prune",
    "cache_verify",
    "check",
    "commit",
    "compare",
    "convert",
    "create",
    "create_options",
    "dump",
    "finish_log",
    "info",
    "log_descriptor",
    "map",
    "open",
    "open_async",
    "plan",
    "profile",
    "publish",
    "publish_profile",
    "rebase",
    "remote_status",
    "serve",
    "set_log_level",
    "set_profile",
    "start_log",
    "stats",
    "take_log",
    "units_with_data",
]

__version__: Final[str]
DEBUG_BUILD: Final[bool]

class FvdError(OSError):
    op: str | None
    offset: int | None
    needs_trust: str | None

class InvalidImageError(FvdError): ...
class UnsupportedError(FvdError): ...
class IoError(FvdError): ...
class NotPermittedError(FvdError): ...
class InUseError(FvdError): ...
class NoSpaceError(FvdError): ...
class PoisonedError(FvdError): ...

@final
class Image:
    @property
    def size(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def pread(self, count: int, offset: int) -> bytes: ...
    def readinto(self, buffer: Buffer, offset: int) -> int: ...
    def pwrite(self, buffer: Buffer, offset: int) -> int: ...
    def discard(self, count: int, offset: int) -> None: ...
    def zero(self, count: int, offset: int) -> None: ...
    def flush(self) -> None: ...
    def extents(self, offset: int = 0, length: int | None = None) -> list[Extent]: ...
    def info(self) -> ImageInfo: ...
    def stats(self) -> dict[str, int]: ...
    def prefetch(
        self, progress: PrefetchProgress | None = None, *, rate_limit: int | None = None
    ) -> PrefetchStatus: ...
    def prefetch_status(self) -> PrefetchStatus: ...
    def pause_prefetch(self) -> None: ...
    def resume_prefetch(self) -> None: ...
    def set_prefetch_rate(self, rate: int | None) -> None: ...
    def file(self) -> io.BufferedReader | io.BufferedRandom: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None: ...

@final
class AsyncImage:
    @property
    def size(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def start(self) -> None: ...
    def pread(self, count: int, offset: int) -> Awaitable[bytes]: ...
    def readinto(self, buffer: Buffer, offset: int) -> Awaitable[int]: ...
    def pwrite(self, buffer: Buffer, offset: int) -> Awaitable[int]: ...
    def zero(self, count: int, offset: int) -> Awaitable[None]: ...
    def discard(self, count: int, offset: int) -> Awaitable[None]: ...
    def flush(self) -> Awaitable[None]: ...
    def extents(self, offset: int = 0, length: int | None = None) -> Awaitable[list[Extent]]: ...
    def info(self) -> Awaitable[ImageInfo]: ...
    def stats(self) -> Awaitable[dict[str, int]]: ...
    def prefetch_status(self) -> Awaitable[PrefetchStatus]: ...
    def prefetch_is_over(self, retries: int) -> Awaitable[bool]: ...
    def prefetch_outcome(self) -> Awaitable[PrefetchStatus]: ...
    def pause_prefetch(self) -> Awaitable[None]: ...
    def resume_prefetch(self) -> Awaitable[None]: ...
    def set_prefetch_rate(self, rate: int | None) -> Awaitable[None]: ...
    def limit_prefetch(self, rate_limit: int | None) -> Awaitable[None]: ...
    def close(self) -> Awaitable[None]: ...

@final
class Call:
    @property
    def number(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def arguments(self) -> tuple[Any, ...]: ...
    def answer(self, result: object) -> None: ...
    def fail(self, exception: BaseException) -> None: ...

@final
class Calls:
    def next(self) -> Call | None: ...
    def take(self) -> tuple[list[Call], list[int]] | None: ...
    def fileno(self) -> int: ...
    def end(self, reason: str) -> None: ...

@final
class RemoteHooks:
    def __new__(cls, kinds: Sequence[tuple[str, str]]) -> Self: ...
    @property
    def calls(self) -> Calls: ...

@final
class Source:
    def __new__(
        cls,
        name: str,
        size: int,
        *,
        identity: str | None = None,
        has_extents: bool = False,
        event_loop: bool = False,
    ) -> Self: ...
    @property
    def url(self) -> str: ...
    @property
    def calls(self) -> Calls: ...

def open(
    path: StrPath,
    *,
    writable: bool = False,
    write_base: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    copy_on_read: bool | None = None,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    base: Source | None = None,
) -> Image: ...
def open_async(
    path: StrPath,
    *,
    writable: bool = False,
    write_base: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    copy_on_read: bool | None = None,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    base: Source | None = None,
) -> Awaitable[AsyncImage]: ...
def create(
    path: StrPath,
    size: int | None = None,
    *,
    format: TargetFormat = "fvd",
    backing_file: str | None = None,
    backing_format: Format | None = None,
    backing_unsafe: bool = False,
    options: Mapping[str, OptionValue] | None = None,
    force: bool = False,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> CreateResult: ...
@overload
def info(
    path: StrPath,
    *,
    format: Format | None = None,
    force_share: bool = False,
    backing_chain: Literal[False] = False,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> ImageInfo: ...
@overload
def info(
    path: StrPath,
    *,
    format: Format | None = None,
    force_share: bool = False,
    backing_chain: Literal[True],
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> list[ImageInfo]: ...
@overload
def info(
    path: StrPath,
    *,
    format: Format | None = None,
    force_share: bool = False,
    backing_chain: bool,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> ImageInfo | list[ImageInfo]: ...
def stats(path: StrPath, *, force_share: bool = False) -> DiskStats: ...
def check(
    path: StrPath,
    *,
    format: Format | None = None,
    repair: Repair | None = None,
    force_share: bool = False,
    backing_chain: bool = False,
    trust: Sequence[StrPath] = ...,
) -> CheckResult: ...
def amend(
    path: StrPath,
    attributes: Mapping[str, OptionValue],
    *,
    format: Format | None = None,
    shrink: bool = False,
    backing_unsafe: bool = False,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> None: ...
def create_options() -> list[tuple[str, Kind, str, str]]: ...
def amend_options() -> list[tuple[str, Kind, str, str]]: ...
def amend_aliases() -> dict[str, str]: ...
def dump(path: StrPath, *, limit: int = 100_000, force_share: bool = False) -> Dump: ...
def profile(path: StrPath, *, force_share: bool = False) -> Profile: ...
def set_profile(path: StrPath, entries: Sequence[tuple[int, int]]) -> ImportedProfile: ...
def map(
    path: StrPath,
    *,
    format: Format | None = None,
    start: int = 0,
    length: int | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> Iterator[Extent]: ...
def cache_list(directory: StrPath) -> list[CacheObject]: ...
def cache_verify(directory: StrPath) -> list[CacheCheck]: ...
def cache_prune(directory: StrPath, size: int) -> int: ...
def commit(
    path: StrPath,
    *,
    format: Format | None = None,
    keep: bool = False,
    cache: CacheMode = "writeback",
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> CommitResult: ...
def rebase(
    path: StrPath,
    backing_file: StrPath | None,
    *,
    backing_format: Format | None = None,
    format: Format | None = None,
    name_only: bool = False,
    cache: CacheMode = "writeback",
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> RebaseResult: ...
def compare(
    a: StrPath | Image | AsyncImage | Source,
    b: StrPath | Image | AsyncImage | Source,
    *,
    a_format: Format | None = None,
    b_format: Format | None = None,
    strict: bool = False,
    cache: CacheMode = "writeback",
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> CompareResult: ...
def units_with_data(
    source: StrPath | Image | AsyncImage | Source,
    unit: int | None = None,
    *,
    source_format: Format | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
) -> tuple[int, int]: ...
def plan(
    size: int | None,
    *,
    backing_file: str | None = None,
    backing_format: Format | None = None,
    options: Mapping[str, OptionValue] | None = None,
    trust: Sequence[StrPath] = ...,
    remote: Remote | None = None,
) -> dict[str, int]: ...
def convert(
    source: StrPath | Image | AsyncImage | Source | int,
    target: StrPath | int,
    *,
    source_format: Format | None = None,
    target_format: TargetFormat = "raw",
    options: Mapping[str, OptionValue] | None = None,
    backing_file: str | None = None,
    backing_format: Format | None = None,
    sparse_size: int = 4096,
    no_create: bool = False,
    out_of_order: bool = False,
    force: bool = False,
    target_is_zero: bool = False,
    cache: CacheMode = "unsafe",
    source_cache: CacheMode = "writeback",
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    rate_limit: int | None = None,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> ConvertResult: ...
def publish(
    source: StrPath | Image | AsyncImage | Source,
    target: StrPath,
    *,
    source_format: Format | None = None,
    profile: Sequence[tuple[int, int]] | None = None,
    force: bool = False,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    force_share: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> PublishResult: ...
def publish_profile(
    target: StrPath, entries: Sequence[tuple[int, int]], *, remote: Remote | None = None
) -> PublishResult: ...
def remote_status() -> RemoteStatus: ...

@final
class Server:
    @property
    def uris(self) -> list[str]: ...
    @property
    def metrics_url(self) -> str | None: ...
    @property
    def open_doors(self) -> list[str]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def connections(self) -> int: ...
    def wait(self, timeout: float | None = None) -> Literal["ended", "signal", "timeout"]: ...
    def stats(self) -> ServerStats: ...
    def begin_stop(self) -> bool: ...
    def stop(self) -> None: ...

def serve(
    disks: Sequence[tuple[str, StrPath | Image | AsyncImage | Source]],
    *,
    sockets: Sequence[int] = ...,
    socket: StrPath | None = None,
    bind: str | None = None,
    port: int | None = None,
    description: str = "",
    format: Format | None = None,
    offset: int = 0,
    size: int | None = None,
    read_only: bool = False,
    persistent: bool = True,
    shared: int = 0,
    force_share: bool = False,
    cache: CacheMode = "writeback",
    discard: Discard = "unmap",
    detect_zeroes: DetectZeroes = "off",
    aio: Aio | None = None,
    copy_on_read: bool | None = None,
    base_error: BaseError | None = None,
    base_timeout: float | None = None,
    write_base: bool = False,
    trust: Sequence[StrPath] = ...,
    cache_dir: StrPath | None = None,
    remote: Remote | None = None,
    tls_creds: StrPath | None = None,
    tls_psk: StrPath | None = None,
    tls_verify_peer: bool = False,
    tls_authz: Sequence[str] = ...,
    tls_required: bool = True,
    handshake_limit: int | None = None,
    poll_max_ns: int | None = None,
    metrics: str | None = None,
    signals: bool = False,
    patience: float | None = None,
) -> Server: ...

_LogFields: TypeAlias = dict[str, int | float | bool | str]
_LogSpan: TypeAlias = tuple[str, _LogFields]
_LogRecord: TypeAlias = tuple[float, int, str, str, _LogFields, list[_LogSpan], str | None]

def start_log(filter: str, format: str) -> None: ...
def finish_log() -> None: ...
def set_log_level(level: int | None) -> None: ...
def log_descriptor() -> int: ...
def take_log() -> tuple[list[_LogRecord], int]: ...
