"""A picture of a disk: squares in rows, and what each is made of. SVG, also inside a page."""

from __future__ import annotations

from fvd.cli._output import human_size, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fvd.types import Extent

COLUMNS, MOST_ROWS = 64, 48
SQUARE, GAP = 10, 1
LEFT, TOP, BELOW = 84, 62, 20
LEAST = 4096
"""The smallest square, in bytes."""

LOCAL, BASE, DEEPER, ZERO = range(4)
KINDS = (
    ("local", "in this image"),
    ("base", "in its base"),
    ("deeper", "below the base"),
    ("zero", "zeros"),
)
"""Class in the style sheet, and text of the legend."""

STYLE = """
svg { font: 12px system-ui, sans-serif; background: #fff; }
text { fill: #1f2328; }
.note { fill: #59636e; }
.local { fill: #2563a8; } .base { fill: #d9953b; } .deeper { fill: #f0d3a4; } .zero { fill: #e3e6ea; }
.dot { fill: #fff; stroke: #1f2328; stroke-width: .7; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; } .note { fill: #9198a1; }
  .local { fill: #58a6ff; } .base { fill: #d29922; } .deeper { fill: #7d5b17; } .zero { fill: #262c36; }
  .dot { fill: #0d1117; stroke: #e6edf3; }
}
"""

PAGE_STYLE = """
body { margin: 0; background: #fff; }
svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; } }
"""


class Grid:
    """The bytes of each kind in each square. All squares have the same length, but for the last."""

    def __init__(self, start: int, end: int) -> None:
        """Squares for the bytes from `start` to `end` of a disk."""
        self.start, self.end = start, max(end, start)
        square = LEAST
        while square * COLUMNS * MOST_ROWS < self.end - self.start:
            square *= 2
        self.square = square
        count = -(-(self.end - self.start) // square)
        self.bytes = [[0] * count for _ in KINDS]

    def add(self, extents: Iterable[Extent]) -> None:
        """Count these extents, which are in order."""
        for extent in extents:
            first, end = extent["start"], min(extent["start"] + extent["length"], self.end)
            self._add(kind_of(extent), max(first, self.start) - self.start, end - self.start)

    def _add(self, kind: int, first: int, end: int) -> None:
        counts, square = self.bytes[kind], self.square
        if first >= end:
            return
        begin, last = first // square, (end - 1) // square
        if begin == last:
            counts[begin] += end - first
            return
        counts[begin] += (begin + 1) * square - first
        counts[begin + 1 : last] = [square] * (last - begin - 1)
        counts[last] += end - last * square

    def total(self, kind: int) -> int:
        """Return the bytes of a kind in all squares."""
        return sum(self.bytes[kind])

    def length(self, number: int) -> int:
        """Return the bytes of a square."""
        return min(self.square, self.end - self.start - number * self.square)


def kind_of(extent: Extent) -> int:
    """Return what an extent is to the picture."""
    if extent["zero"] or not extent["data"]:
        return ZERO
    return (LOCAL, BASE, DEEPER)[min(extent["depth"], 2)]


def svg(name: str, grid: Grid, profile: Sequence[tuple[int, int]] = ()) -> Iterator[str]:
    """Yield the lines of the picture. `profile`: offsets and lengths that a machine reads first, in order."""
    rows = max(1, -(-len(grid.bytes[0]) // COLUMNS))
    width = LEFT + COLUMNS * (SQUARE + GAP) + 36
    height = TOP + rows * (SQUARE + GAP) + BELOW
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    yield f' viewBox="0 0 {width} {height}">\n'
    yield f"<title>{escaped(name)}</title><style>{STYLE}</style>\n"
    size = human_size(grid.end - grid.start)
    yield f'<text x="12" y="20" font-weight="bold">{escaped(name)}</text>\n'
    yield f'<text class="note" x="12" y="{height - 7}">{size}; a square is {human_size(grid.square)}'
    yield f"{'; dots: what the boot profile names, the earlier the larger' if profile else ''}</text>\n"
    yield from _legend(grid)
    for row in range(rows):
        y = TOP + row * (SQUARE + GAP)
        if row % 4 == 0:
            offset = human_size(grid.start + row * COLUMNS * grid.square)
            yield f'<text class="note" x="{LEFT - 8}" y="{y + 9}" text-anchor="end">{offset}</text>\n'
        yield from _row(grid, row, y)
    yield from _dots(grid, profile)
    yield "</svg>\n"


def page(name: str, grid: Grid, profile: Sequence[tuple[int, int]] = ()) -> Iterator[str]:
    """Yield the lines of a page with the picture."""
    yield '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
    yield f'<meta name="color-scheme" content="light dark"><title>{escaped(name)}</title>\n'
    yield f"<style>{PAGE_STYLE}</style>\n"
    yield from svg(name, grid, profile)
    yield "</html>\n"


def _legend(grid: Grid) -> Iterator[str]:
    whole = max(1, grid.end - grid.start)
    shown = [kind for kind in (LOCAL, BASE, DEEPER, ZERO) if kind != DEEPER or grid.total(kind)]
    for place, kind in enumerate(shown):
        style, text = KINDS[kind]
        x, count = 12 + place * 204, grid.total(kind)
        yield f'<rect class="{style}" x="{x}" y="33" width="11" height="11"/>'
        yield f'<text x="{x + 17}" y="43">{text}: {human_size(count)} ({100 * count / whole:.1f}%)</text>\n'


def _row(grid: Grid, row: int, y: int) -> Iterator[str]:
    """Yield the squares of a row. Those that are the same are one rectangle."""
    first = row * COLUMNS
    end = min(first + COLUMNS, len(grid.bytes[0]))
    number = first
    while number < end:
        kind = _only(grid, number)
        if kind is None:
            yield from _mixed(grid, number, LEFT + (number - first) * (SQUARE + GAP), y)
            number += 1
            continue
        next = number + 1
        while next < end and _only(grid, next) == kind:
            next += 1
        x, width = LEFT + (number - first) * (SQUARE + GAP), (next - number) * (SQUARE + GAP) - GAP
        yield f'<rect class="{KINDS[kind][0]}" x="{x}" y="{y}" width="{width}" height="{SQUARE}"/>\n'
        number = next


def _only(grid: Grid, number: int) -> int | None:
    """Return the kind that a square is made of; None: there are several."""
    length = grid.length(number)
    return next((kind for kind in range(len(KINDS)) if grid.bytes[kind][number] == length), None)


def _mixed(grid: Grid, number: int, x: float, y: int) -> Iterator[str]:
    """Yield the parts of a square, the larger ones wider. What there is can be seen, however little."""
    counts = [(kind, grid.bytes[kind][number]) for kind in range(len(KINDS)) if grid.bytes[kind][number]]
    whole = sum(count for _, count in counts) or 1
    widths = [max(1.5, SQUARE * count / whole) for _, count in counts]
    scale = SQUARE / (sum(widths) or 1)
    for (kind, _), width in zip(counts, widths, strict=True):
        part = width * scale
        yield f'<rect class="{KINDS[kind][0]}" x="{x:.1f}" y="{y}" width="{part:.1f}" height="{SQUARE}"/>\n'
        x += part


def _dots(grid: Grid, profile: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yield a dot in each square that the profile names: the earlier, the larger."""
    ranks: dict[int, float] = {}
    for rank, (offset, length) in enumerate(profile):
        first, end = max(offset, grid.start) - grid.start, min(offset + length, grid.end) - grid.start
        for number in range(first // grid.square, -(-end // grid.square)):
            ranks.setdefault(number, 1 - rank / len(profile))
    for number, heat in ranks.items():
        row, column = divmod(number, COLUMNS)
        x = LEFT + column * (SQUARE + GAP) + SQUARE / 2
        y = TOP + row * (SQUARE + GAP) + SQUARE / 2
        yield f'<circle class="dot" cx="{x}" cy="{y}" r="{1 + 2.4 * heat:.1f}"/>\n'


def escaped(text: str) -> str:
    """Return `text` as it stands in XML: names in an image are untrusted text."""
    shown = printable(text).encode("utf-8", "replace").decode()
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
