"""Checks licences, sources and duplicates of all crates in Cargo.lock against deny.toml, without a network.

It understands only the parts of deny.toml that this file uses. cargo-deny checks the same, and advisories
too. Building it takes minutes and its database is on GitHub, so it runs in the scheduled workflow.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path


def is_allowed(licence: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be satisfied. `/` is an old way to write OR."""
    names = sorted(allowed, key=len, reverse=True)
    for name in names:
        licence = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])(?! WITH)", " True ", licence)
    licence = re.sub(r"\bWITH\b", "-", licence.replace("/", " OR "))
    licence = re.sub(r"[A-Za-z][\w.-]*(?: - [\w.-]+)?", keyword, licence)
    return bool(eval(licence, {"__builtins__": {}}))  # only True, False, and, or, parentheses


def keyword(found: re.Match[str]) -> str:
    """The Python word for a word of an SPDX expression, in which allowed licences have been replaced by
    True.
    """
    return {"OR": "or", "AND": "and", "True": "True"}.get(found[0], "False")


def main() -> int:
    """Prints what deny.toml forbids. Returns 1 if there is anything, otherwise 0."""
    rules = tomllib.loads(Path("deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    allowed = set(rules["licenses"]["allow"])
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    skipped = {skip["crate"].partition("@")[::2] for skip in rules["bans"]["skip"]}
    faults = []
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for package in packages:
        name, version, source = package["name"], package["version"], package["source"]
        if not is_allowed(package["license"] or "none", allowed):
            faults.append(f"{name} {version}: licence {package['license']} is not in deny.toml")
        if source is not None and source not in registries:
            faults.append(f"{name} {version}: comes from {source}")
        if not any(name == skip and version.startswith(prefix) for skip, prefix in skipped):
            versions[name].add(version)
    for name, found in versions.items():
        if len(found) > 1:
            faults.append(f"{name}: {len(found)} versions, {', '.join(sorted(found))}")
    print("\n".join(faults) or f"{len(packages)} crates: licences, sources and versions as deny.toml says")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
