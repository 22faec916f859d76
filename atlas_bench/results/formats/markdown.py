"""A leaderboard as Markdown, for GitHub.

    markdown(board, [], title="Our memory")        # | 1 | atlas-nano | 1M | 99.2 (98-100), n=400 |

Names and reasons come from records, so every character that Markdown or HTML acts on is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from atlas_bench.errors import printable
from atlas_bench.results import breakdowns, labels, leaderboard, reference
from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.record import clip


def markdown(
    board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = labels.TITLE, command: str = ""
) -> str:
    """The leaderboard as GitHub's Markdown: panels, breakdowns, reasons, others' numbers.

    beside  what others published, from reference.beside(); empty to leave it out
    """
    out = [f"# {_md(title)}", f"{labels.number(board)}.", "  \n".join(_md(line) for line in _legend(board))]
    for panel in board.panels:
        heads, rows = leaderboard.table(panel, labels.sentence)
        out += [f"## {_md(panel.name)}", _md("; ".join(labels.facts(panel)))]
        out.append(table(heads, rows, left=[heads.index("model")]))
    grids, left_out = breakdowns.telling(board)
    for grid in grids:
        out += [f"### {_md(grid.title)}", table(*grid.table(), left=[0])]
    out += [_md(left_out)] if left_out else []
    if reasons := [f"- {_md(reason)}" for reason in labels.reasons(board)]:
        out += ["## Without a score", "\n".join(reasons)]
    out += _published(beside) if beside else []
    out += [f"Made by: {_md(command)}"] if command else []
    return "\n\n".join(out) + "\n"


def _legend(board: Leaderboard) -> list[str]:
    """The legend without marks: these tables have words instead."""
    legend = labels.legend(board, "blank")
    terms = {"Cells": legend.pop("Cells")}
    terms |= {"on .. contexts": labels.SHARED} if any(map(labels.shares, board.cells)) else {}
    terms |= {term: meaning for term, meaning in legend.items() if term not in labels.MARKS}
    return [f"{term}: {meaning}" for term, meaning in terms.items()]


def _published(beside: Sequence[reference.Beside]) -> Iterator[str]:
    yield "## Published, not measured here"
    yield _md(reference.CAVEAT)
    for each in beside:
        yield f"### {_md(each.name)}, published"
        yield table(*each.table(), left=[0, 1, 2])
    cited = reference.sources(list(beside)).items()
    yield "\n".join(f"- {source}: {_md(citation)}" for (source, _), citation in cited)
    if notes := [f"- {_md(note)}" for note in reference.notes(list(beside))]:
        yield "\n".join(notes)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int]) -> str:
    """A table of texts, which are escaped and clipped here; columns in `left` are aligned left."""
    rule = [":--" if i in left else "--:" for i in range(len(heads))]
    lines = [[_md(clip(cell, 2 * labels.NAME_CHARS)) for cell in row] for row in (heads, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (lines[0], rule, *lines[1:]))


_MD = str.maketrans({
    **{c: f"\\{c}" for c in "\\`*_[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;",
})  # fmt: skip


def _md(foreign: str) -> str:
    """Foreign text escaped for Markdown and HTML, on one line."""
    shown = printable(foreign, False).translate(_MD)
    for live in ("@", "://", "www."):  # GitHub would call a person, or make a link
        shown = shown.replace(live, f"{live[0]}&#8203;{live[1:]}")
    return shown
