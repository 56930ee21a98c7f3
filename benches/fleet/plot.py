"""A chart of the fleets: how many machines are up when, and the requests of each second; PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"local": "#8d99a6", "full copy": "#c9b27c", "fvd": "#7fb0dd", "fvd, profile": "#2563a8"}


def draw(outcomes: Sequence[dict[str, Any]], lasting: float, name: Path) -> None:
    """Writes NAME.png and NAME.svg."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in outcomes:
        way, fleet = one["name"].split("; ", 1)
        groups.setdefault(fleet, []).append({**one, "way": way})
    # Text remains text in the SVG.
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(12.8, 2.4 * len(groups) + 0.5), layout="constrained")
        panels = figure.subplots(len(groups), 2, squeeze=False)
        for (up, requests), (fleet, ways) in zip(panels, groups.items(), strict=True):
            draw_up(up, fleet, ways)
            draw_requests(requests, ways)
        figure.supxlabel(
            f"simulated; a boot takes {lasting:g} s without waits; the store serves 5500 requests a second",
            fontsize=7,
            color="#555555",
        )
        for ending in ("png", "svg"):
            figure.savefig(name.with_name(f"{name.name}.{ending}"), dpi=130)


def draw_up(panel: Axes, fleet: str, ways: Sequence[dict[str, Any]]) -> None:
    panel.set_title(f"hosts x machines: {fleet}", loc="left", fontsize=9)
    for one in ways:
        panel.plot(one["quantiles"], range(101), color=COLOURS[one["way"]], label=one["way"])
    panel.set_xscale("log")
    panel.set_xlabel("seconds from the start of a machine until it is up", fontsize=8)
    panel.set_ylabel("% are up", fontsize=8)
    panel.legend(fontsize=7, frameon=False)
    panel.spines[["top", "right"]].set_visible(False)


def draw_requests(panel: Axes, ways: Sequence[dict[str, Any]]) -> None:
    for one in ways:
        panel.step(range(len(one["requests-a-second"])), one["requests-a-second"], color=COLOURS[one["way"]])
    panel.axhline(5500, color="#bb4444", linewidth=0.8, linestyle=":")
    panel.set_xlabel("seconds from the first start", fontsize=8)
    panel.set_ylabel("requests a second", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
