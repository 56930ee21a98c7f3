"""Markdown, as far as `docs/cli` uses it, to the macros of man(7)."""

from __future__ import annotations

import re

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\[(?P<text>[^]]+)\]\((?P<target>[^)]+)\)|\*\*(?P<bold>[^*]+)\*\*|\*(?P<italic>[^*]+)\*"
)
_PAGE = re.compile(r"([a-z]+)\.md(#.*)?")


def escaped(text: str) -> str:
    """Return the text with what roff would interpret made literal."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "".join(it if it.isascii() else f"\\[u{ord(it):04X}]" for it in text)


def inline(text: str) -> str:
    """Return a text with its code, links and emphasis; one line of output."""
    done, at = [], 0
    for found in _INLINE.finditer(text):
        done += [escaped(text[at : found.start()]), _piece(found)]
        at = found.end()
    return _guarded("".join([*done, escaped(text[at:])]))


def _piece(found: re.Match[str]) -> str:
    if found["code"]:
        return f"\\fB{escaped(found['code'])}\\fP"
    if found["bold"]:
        return f"\\fB{escaped(found['bold'])}\\fP"
    if found["italic"]:
        return f"\\fI{escaped(found['italic'])}\\fP"
    text = inline(found["text"]).removeprefix("\\&")
    page = _PAGE.fullmatch(found["target"])
    if page is None:
        return text
    name = f"\\fBfvd\\-{page[1]}\\fP(1)"
    return name if found["text"].strip("`").removeprefix("fvd ") == page[1] else f"{text} ({name})"


def _guarded(line: str) -> str:
    """Return a line that is not taken for a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def paragraph(lines: list[str]) -> list[str]:
    """Return a paragraph."""
    return [".PP", inline(" ".join(line.strip() for line in lines))]


def literal(lines: list[str]) -> list[str]:
    """Return lines that are shown as they are."""
    return [".PP", ".RS 4", ".nf", *(_guarded(escaped(line)) for line in lines), ".fi", ".RE"]


def table(rows: list[list[str]]) -> list[str]:
    """Return the rows of a table, of which the first is its heading, as a list of terms."""
    (_, *names), *others = rows
    made = []
    for term, *cells in others:
        made += [".TP", _bold(term)]
        if len(names) == 1:
            made.append(inline(cells[0]) or "\\&")
            continue
        told = [f"{name}: {cell}" for name, cell in zip(names, cells, strict=True) if cell]
        made.append(inline("; ".join(told)) or "\\&")
    return made


def _bold(term: str) -> str:
    return inline(term) if "`" in term else f"\\fB{inline(term)}\\fP"


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
