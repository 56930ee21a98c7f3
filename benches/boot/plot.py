"""A chart of the boots: seconds to the marker, seconds of waiting, MiB from the store; PNG and SVG."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import Row, rows
from .runs import Run

PANELS: list[tuple[str, Callable[[Row], float]]] = [
    ("seconds to the marker", lambda row: row.seconds),
    ("of these, the disk is waited for", lambda row: row.waiting),
    ("MiB from the store", lambda row: row.mib),
    ("requests to the store", lambda row: row.requests),
]


def draw(runs: Sequence[Run], title: str, name: Path) -> None:
    """Writes NAME.png and NAME.svg."""
    bars = sorted(rows(runs), key=lambda row: row.seconds)
    # Text remains text in the SVG.
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(12.8, 0.34 * len(bars) + 1.4), layout="constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for panel, (what, value) in zip(panels, PANELS, strict=True):
            draw_panel(panel, what, bars, [value(row) for row in bars])
        figure.supxlabel(f"{title}; less is better", fontsize=7, color="#555555")
        for ending in ("png", "svg"):
            figure.savefig(name.with_name(f"{name.name}.{ending}"), dpi=130)


def draw_panel(panel: Axes, what: str, bars: Sequence[Row], values: Sequence[float]) -> None:
    positions = range(len(bars))
    colours = ["#2563a8" if row.way.startswith("fvd") else "#8d99a6" for row in bars]
    panel.set_title(what, loc="left", fontsize=9)
    panel.barh(positions, values, height=0.72, color=colours)
    panel.set_yticks(positions, [row.name for row in bars])
    if not panel.yaxis_inverted():
        panel.invert_yaxis()
    second, furthest = sorted([1e-9, 1e-9, *values])[-2:]
    if furthest > 5 * second:
        # One long bar would hide all others.
        panel.set_xscale("symlog", linthresh=furthest / 50)
        panel.set_xlim(0, furthest * 4)
    else:
        panel.set_xlim(0, furthest * 1.25)
    for position, value in zip(positions, values, strict=True):
        label = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        panel.text(value, position, f" {label}", va="center", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="x", labelsize=7)
