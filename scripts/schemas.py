"""Makes the JSON schemas of what commands print: docs/schemas. `python -m scripts.schemas`.

Most documents are results of functions of `fvd`, so their schemas come from the types of `fvd.types`.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from fvd import types as known
from fvd.cli import check

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"


class Resized(TypedDict):
    filename: str
    size: int


class Amended(TypedDict):
    filename: str
    changed: dict[str, Any]


class Exported(TypedDict):
    name: str
    file: str


Ready = TypedDict(
    "Ready",
    {
        "state": Literal["ready"],
        "pid": int,
        "exports": list[Exported],
        "read-only": bool,
        "uris": list[str],
        "metrics": str | None,
        "warning": str | None,
    },
)


class Latency(TypedDict):
    p50: float
    p99: float
    max: float


Bench = TypedDict(
    "Bench",
    {
        "operation": Literal["read", "write"],
        "count": int,
        "buffer-size": int,
        "depth": int,
        "offset": int,
        "step-size": int,
        "seed": int | None,
        "flush-interval": int,
        "seconds": float,
        "requests-per-second": float | None,
        "latency-us": Latency,
    },
)
Progress = TypedDict(
    "Progress",
    {
        "state": Literal["running", "done", "failed"],
        "done": int,
        "total": int | None,
        "percent": float | None,
        "bytes-per-second": int,
        "eta-seconds": float | None,
    },
)


class Failure(TypedDict):
    level: Literal["error", "warning", "note"]
    message: str
    hint: NotRequired[str]
    error: NotRequired[str]
    status: NotRequired[int]
    errno: NotRequired[str]
    file: NotRequired[str]
    operation: NotRequired[str]


DOCUMENTS: dict[str, tuple[str, Any]] = {
    "amend": ("fvd amend --output=json", Amended),
    "bench": ("fvd bench --output=json", Bench),
    "cache-list": ("fvd cache list --output=json", list[known.CacheObject]),
    "cache-verify": ("fvd cache verify --output=json", list[known.CacheCheck]),
    "check": ("fvd check --output=json", known.CheckResult),
    "commit": ("fvd commit --output=json", known.CommitResult),
    "create": ("fvd create --output=json", known.CreateResult),
    "dump": ("fvd dump --output=json", known.Dump),
    "errors": ("a line of fvd --errors=json", Failure),
    "info": ("fvd info --output=json", known.ImageInfo),
    "info-chain": ("fvd info --output=json --backing-chain", list[known.ImageInfo]),
    "map": ("fvd map --output=json", list[known.Extent]),
    "measure": ("fvd measure --output=json", known.MeasureResult),
    "prefetch": ("fvd prefetch --output=json", known.PrefetchStatus),
    "prefetch-progress": ("a line of fvd prefetch --progress=json", known.PrefetchStatus),
    "profile": ("fvd profile show --output=json", known.Profile),
    "progress": ("a line of --progress=json of convert, compare, commit, rebase and publish", Progress),
    "rebase": ("fvd rebase --output=json", known.RebaseResult),
    "resize": ("fvd resize --output=json", Resized),
    "serve": ("the line that fvd serve --output=json prints when clients can connect", Ready),
}
"""By the name of the file: what it is of, and its type."""


def made() -> dict[str, str]:
    """Return the content of every schema by its name."""
    found = {name: _document(about, type) for name, (about, type) in DOCUMENTS.items()}
    # qemu-img leaves counts out that are zero.
    required = found["check"]["required"]
    found["check"]["required"] = [name for name in required if name not in check.LEFT_OUT_WHEN_ZERO]
    # A part that was not asked for is not there; what was cut is told on stderr.
    found["dump"]["required"] = ["filename"]
    del found["dump"]["properties"]["truncated"]
    found["info"]["properties"]["stats"] = schema(known.DiskStats)
    more = found["prefetch-progress"]
    more["properties"] |= {"percent": schema(float), "eta-seconds": schema(float | None)}
    more["required"] += ["percent", "eta-seconds"]
    return {name: json.dumps(document, indent=2) + "\n" for name, document in found.items()}


def _document(about: str, type: Any) -> dict[str, Any]:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": about}
    return head | schema(type)


def schema(type: Any) -> dict[str, Any]:
    """Return the schema of a type."""
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
    if type in simple:
        return {"type": simple[type]}
    if type is Any or type is object:
        return {}
    if is_typeddict(type):
        return _object(type)
    origin, arguments = get_origin(type), get_args(type)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(one) for one in arguments]}
    if origin is NotRequired:
        return schema(arguments[0])
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": schema(arguments[0])}
    if origin is tuple:
        items = [schema(one) for one in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    raise TypeError(f"no schema for {type}")


def _object(type: Any) -> dict[str, Any]:
    hints = get_type_hints(type, include_extras=True)
    names = {name: schema(hint) for name, hint in hints.items()}
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    required = [name for name in names if name not in optional]
    return {"type": "object", "properties": names, "required": required}


def main() -> None:
    """Write the files, and remove others."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, text in made().items():
        (FOLDER / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
