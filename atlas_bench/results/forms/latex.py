r"""A board as LaTeX tables with booktabs rules.

    latex(board, [])       # \begin{table}[htbp] .. 1 & atlas-nano & 1M & \shortstack[r]{99.2\\{\scriptsize [98, 100]}..

It asks for the package booktabs and nothing else. Names come from records: every sign that LaTeX acts on is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atlas_bench.results import published
from atlas_bench.results.board import Board, Cell, Panel
from atlas_bench.results.forms import words
from atlas_bench.results.record import clip
from atlas_bench.results.table import printable
from atlas_bench.units import format_length


def latex(board: Board, found: Sequence[words.Beside], *, title: str = words.TITLE, command: str = "") -> str:
    """The board as LaTeX: a table with booktabs rules for each panel."""
    made = f"\n% made by: {_tex(command)}" if command else ""
    out = [f"% {_tex(title)}; needs \\usepackage{{booktabs}}, and UTF-8{made}"]
    rules = (f"effective: {words.effective_rule(board)}", f"rank: {words.RANK_RULE}") if words.is_scored(board) else ()
    legend = (*rules, *words.explained(board))
    for panel in board.panels:
        rows = [
            [words.rank(row), _tex(clip(row.model, words.NAME_CHARS)), words.effective(row)]
            + [_tex_cell(row.cells.get(length), panel) for length in panel.lengths]
            for row in panel.rows
        ]
        heads = ["rank", "model", "effective", *(format_length(length) for length in panel.lengths)]
        said = f"{panel.name}: {words.CELL}. " if panel.scorer else f"{panel.name}. "
        said += f"{'; '.join(words.facts(panel))}."
        out.append(_tex_table(" ".join((said, *legend)), heads, rows, "rl"))
    for each in found:
        heads = ["source", "model", *map(words.at, each.lengths)]
        rows = [
            [f"{source}, {kind}", _tex(model), *(words.quoted(cells.get(length)) for length in each.lengths)]
            for (model, source, kind), cells in each.lines.items()
        ]
        sources = dict.fromkeys((row.source, row.kind) for row in each.rows)
        said = [f"{each.name}: published by others, not measured here. {published.CAVEAT}"]
        said += [f"{source}: {words.source(source, kind)}" for source, kind in sources]
        out.append(_tex_table(" ".join((*said, *words.notes([each]))), heads, rows, "ll"))
    if reasons := [f"% {_tex(reason)}" for reason in words.reasons(board)]:
        out.append("\n".join(("% without a score:", *reasons)))
    return "\n\n".join(out) + "\n"


def _tex_cell(cell: Cell | None, panel: Panel) -> str:
    r"""'\shortstack[r]{97.0\\{\scriptsize [93, 99]}\\{\scriptsize 200}}': narrow, so that many lengths fit a page."""
    if cell is None or not cell.n:
        return _tex(words.sentence(cell, panel))
    percent, low, high = words.numbers(cell)
    n = _tex(f"{cell.n}{words.marks(cell)}")
    return rf"\shortstack[r]{{{percent}\\{{\scriptsize [{low}, {high}]}}\\{{\scriptsize {n}}}}}"


def _tex_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: str) -> str:
    """A table of escaped cells; the first columns are aligned as `left` says, the others right."""
    lines = [
        r"\begin{table}[htbp]", r"\centering\small", rf"\caption{{{_tex(caption)}}}",
        rf"\begin{{tabular}}{{{left}{'r' * (len(heads) - len(left))}}}", r"\toprule",
        " & ".join(heads) + r" \\", r"\midrule", *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


_TEX = str.maketrans({
    **{c: f"\\{c}" for c in "{}&%$#_"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip


def _tex(foreign: str) -> str:
    """Text that LaTeX takes for nothing but text, on one line."""
    return printable(foreign, False).translate(_TEX)
