"""Runs the model (rust/fvd-sim/src/fleet)."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "benches/boot/traces/debian.txt"


@cache
def program() -> Path:
    # The test profile is optimised, and what it needs is there after the tests.
    command = ["cargo", "build", "-q", "--workspace", "--profile", "test", "--example", "fleet"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "target/debug/examples/fleet"


def simulate(trace: Path, **keys: object) -> list[dict[str, Any]]:
    """The outcome of one scenario, or without keys but `lasting` of those of `docs/fleet.md`."""
    words = [f"{name.replace('_', '-')}={value}" for name, value in keys.items()]
    done = subprocess.run([program(), trace, *words], check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
