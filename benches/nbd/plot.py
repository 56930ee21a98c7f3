"""A chart of the figures: a panel for each work, a bar for each server, as PNG and SVG."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import Report, Row
from .works import Work

COLUMNS = 2
# By the prefix of the server's name. The bars are labelled, so the chart is readable without colours.
COLOURS = {"fvd": "#2563a8", "qemu": "#8d99a6", "nbdkit": "#c9b27c"}
BAR = 0.34  # inches


def draw(report: Report, name: Path) -> None:
    """Writes NAME.png and NAME.svg."""
    works = [(work, report.rows(work)) for work in report.works.values()]
    columns = min(COLUMNS, len(works))
    pairs = [works[at : at + columns] for at in range(0, len(works), columns)]
    heights = [max(len(rows) for _, rows in pair) * BAR + 0.9 for pair in pairs]
    # Text remains text in the SVG.
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(6.4 * columns, sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(len(pairs), columns, squeeze=False, height_ratios=heights)
        for panels, pair in zip(grid, pairs, strict=True):
            for panel, (work, rows) in zip(panels, pair, strict=False):
                draw_work(panel, work, rows)
            for panel in panels[len(pair) :]:
                panel.set_axis_off()
        figure.supxlabel(
            f"{report.machine}; medians of {report.rounds} runs of up to {report.runtime} s, "
            "lines: least to most; in brackets: ratio to the first",
            fontsize=7,
            color="#555555",
        )
        for ending in ("png", "svg"):
            figure.savefig(name.with_name(f"{name.name}.{ending}"), dpi=130)


def draw_work(panel: Axes, work: Work, rows: list[Row]) -> None:
    """Draws bars from top to bottom, each with its value and its ratio to the first one."""
    better = "less is better" if work.value == "MiB peak" else "more is better"
    panel.set_title(f"{work.title}\n{work.value}, {better}", loc="left", fontsize=9)
    positions = range(len(rows))
    values = [row.value for row in rows]
    # With an even number of rounds, rounding may put the median outside the range.
    errors = [
        [max(row.value - row.least, 0.0) for row in rows],
        [max(row.most - row.value, 0.0) for row in rows],
    ]
    panel.barh(
        positions,
        values,
        xerr=errors,
        height=0.72,
        color=[colour(row.server) for row in rows],
        error_kw={"ecolor": "#222222", "elinewidth": 0.8, "capsize": 2},
    )
    panel.set_yticks(positions, [row.server for row in rows])
    panel.invert_yaxis()
    furthest = max((row.most for row in rows), default=1.0)
    panel.set_xlim(0, furthest * 1.28)
    for position, row in zip(positions, rows, strict=True):
        value = f"{row.value:.0f}" if row.value >= 1000 else f"{row.value:.3g}"
        text = f" {value}" + (f"  ({row.ratio:.2f})" if position else "")
        panel.text(row.most + furthest * 0.01, position, text, va="center", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def colour(server: str) -> str:
    return next(colour for start, colour in COLOURS.items() if server.startswith(start))
