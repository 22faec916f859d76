r"""A leaderboard as LaTeX tables with booktabs rules; they need the package booktabs alone.

    latex(board, [])       # \begin{table}[htbp] .. 1 & atlas-nano & 1M & \shortstack[r]{99.2\\{\scriptsize [98, 100]}..

Names come from records, so every character that LaTeX acts on is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atlas_bench.errors import printable
from atlas_bench.results import labels, leaderboard, reference
from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.panels import Cell, Panel
from atlas_bench.results.record import clip


def latex(
    board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = labels.TITLE, command: str = ""
) -> str:
    """The leaderboard as LaTeX: a table for each panel, then others' numbers, then reasons as comments.

    beside  what others published, from reference.beside(); empty to leave it out
    """
    made = f"\n% made by: {_tex(command)}" if command else ""
    out = [f"% {_tex(title)}; needs \\usepackage{{booktabs}}, and UTF-8{made}"]
    legend = [f"{term}: {meaning}" for term, meaning in labels.legend(board, "blank").items() if term != "Cells"]
    for panel in board.panels:
        heads, rows = leaderboard.table(panel, _cell)
        stub = len(heads) - len(panel.lengths)
        escaped = [[*(_tex(clip(text, labels.NAME_CHARS)) for text in row[:stub]), *row[stub:]] for row in rows]
        caption = f"{panel.name}: {labels.cell_words(panel.cells)}. " if panel.scorer else f"{panel.name}. "
        caption = " ".join((f"{caption}{'; '.join(labels.facts(panel))}.", *legend))
        out.append(_table(caption, [*map(_tex, heads)], escaped, left=[heads.index("model")]))
    for each in beside:
        heads, rows = each.table()
        texts = [f"{each.name}: published by others, not measured here. {reference.CAVEAT}"]
        texts += [f"{source}: {citation}" for (source, _), citation in reference.sources([each]).items()]
        escaped = [[_tex(cell) for cell in row] for row in rows]
        out.append(_table(" ".join((*texts, *reference.notes([each]))), heads, escaped, left=[0, 1, 2]))
    if reasons := [f"% {_tex(reason)}" for reason in labels.reasons(board)]:
        out.append("\n".join(("% without a score:", *reasons)))
    return "\n\n".join(out) + "\n"


def _cell(cell: Cell | None, panel: Panel) -> str:
    r"""'\shortstack[r]{97.0\\{\scriptsize [93, 99]}\\{\scriptsize 200}}': narrow, so that many lengths fit a page."""
    if cell is None or not cell.n:
        return _tex(labels.sentence(cell, panel))
    percent, low, high = labels.numbers(cell)
    n = _tex(f"{cell.n}{labels.marks(cell)}")
    return rf"\shortstack[r]{{{percent}\\{{\scriptsize [{low}, {high}]}}\\{{\scriptsize {n}}}}}"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int]) -> str:
    """A table of escaped cells; columns in `left` are aligned left."""
    aligned = "".join("l" if i in left else "r" for i in range(len(heads)))
    lines = [
        r"\begin{table}[htbp]", r"\centering\small", rf"\caption{{{_tex(caption)}}}",
        rf"\begin{{tabular}}{{{aligned}}}", r"\toprule",
        " & ".join(heads) + r" \\", r"\midrule", *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


_TEX = str.maketrans({
    **{c: f"\\{c}" for c in "{}&%$#_"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip


def _tex(foreign: str) -> str:
    """Foreign text escaped for LaTeX, on one line."""
    return printable(foreign, False).translate(_TEX)
