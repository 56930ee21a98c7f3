"""Types of arguments and results of `fvd`. Keys that `qemu-img --output=json` has are named as there.

They are for type checkers: at run time every result is a dictionary, and every argument a plain value. Sizes,
offsets and lengths are in bytes.

```pycon
>>> from fvd.types import Extent, ImageInfo, Mode
>>> mode: Mode = "r+"
>>> info: ImageInfo = fvd.info("overlay.fvd")
>>> first: Extent = next(fvd.map("overlay.fvd"))
```
"""

from fvd._public import publish as _publish
from fvd.types._arguments import (
    Aio,
    BaseError,
    CacheMode,
    DetectZeroes,
    Discard,
    Format,
    MeasuredFormat,
    Mode,
    Progress,
    Repair,
    StrPath,
    StrSize,
    Switch,
    TargetFormat,
)
from fvd.types._cache import CacheCheck, CacheObject
from fvd.types._copies import (
    CommitResult,
    CompareResult,
    ConvertResult,
    CreateResult,
    PublishResult,
    RebaseResult,
)
from fvd.types._dump import BitmapRecord, Dump, JournalSector, TableRecord
from fvd.types._images import CheckResult, DiskStats, Extent, FormatSpecific, ImageInfo, Snapshot
from fvd.types._measure import MeasureResult, Qcow2Options
from fvd.types._options import Attributes, ImageOptions, OptionValue
from fvd.types._prefetch import ImportedProfile, PrefetchProgress, PrefetchState, PrefetchStatus, Profile
from fvd.types._remote import Credentials, Outage, RemoteStatus, SignedUrl
from fvd.types._servers import ConnectionCounts, ExportStats, RequestCounts, ServerStats
from fvd.types._sources import AsyncSource, BinaryFile, Source

__all__ = [
    "Aio",
    "AsyncSource",
    "Attributes",
    "BaseError",
    "BinaryFile",
    "BitmapRecord",
    "CacheCheck",
    "CacheMode",
    "CacheObject",
    "CheckResult",
    "CommitResult",
    "CompareResult",
    "ConnectionCounts",
    "ConvertResult",
    "CreateResult",
    "Credentials",
    "DetectZeroes",
    "Discard",
    "DiskStats",
    "Dump",
    "ExportStats",
    "Extent",
    "Format",
    "FormatSpecific",
    "ImageInfo",
    "ImageOptions",
    "ImportedProfile",
    "JournalSector",
    "MeasureResult",
    "MeasuredFormat",
    "Mode",
    "OptionValue",
    "Outage",
    "PrefetchProgress",
    "PrefetchState",
    "PrefetchStatus",
    "Profile",
    "Progress",
    "PublishResult",
    "Qcow2Options",
    "RebaseResult",
    "RemoteStatus",
    "Repair",
    "RequestCounts",
    "ServerStats",
    "SignedUrl",
    "Snapshot",
    "Source",
    "StrPath",
    "StrSize",
    "Switch",
    "TableRecord",
    "TargetFormat",
]

_publish(globals())
