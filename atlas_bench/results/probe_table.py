"""A probe for a terminal: a row for the whole model and one for each alteration, then what each alteration does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atlas_bench.results.compare import Comparison
from atlas_bench.results.compare_table import cells, legend, metrics_text, p_text, reason, too_few, wrapped
from atlas_bench.results.table import printable

if TYPE_CHECKING:
    from rich.console import Console

RELIES = (
    "A row shows what the trained model relies on; one that was trained without that part might do better or worse."
)
COLUMNS = ("", "right", "% (95 % int.)", "diff (95 % int.)", "p", "verdict")


def render(probe: Comparison, console: Console) -> None:
    """Print a table for each cell; 80 columns are enough for names of 16 characters.

    probe  of probe.main()
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    for task, at, rows in cells(probe):
        table = Table(
            title=Text(f"{task}, {at}", style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=0,
            show_edge=False, pad_edge=False,
        )  # fmt: skip
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in ("", "verdict") else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell, not console.is_terminal)) for cell in _row(row, probe["baseline"])))
        console.print(table)
        _say(console, *(f"{_name(row, probe['baseline'])}: {_why(row)}" for row in rows if row["accuracy"] is None))
        _say(console, *filter(None, [too_few(rows)]), "")
    _say(console, *legend(probe), RELIES, *probe["notes"], "")
    effects = Table.grid(padding=(0, 1, 0, 0))
    for name, effect in probe["alterations"].items():
        effects.add_row(Text(name), Text(effect))
    console.print(effects)


def _row(row: Mapping[str, Any], baseline: str) -> list[str]:
    name, versus = _name(row, baseline), row["versus"] or {}
    if row["accuracy"] is None:
        return [name, "", row["status"], "", "", ""]
    percent = _interval(row["accuracy"], row["low"], row["high"], "{:.{digits}f}", "-")
    score = [f"{row['correct']:g}/{row['n']}", percent]
    if "p_holm" not in versus:
        return [name, *score, "", "", "" if versus else "whole model"]
    difference = _interval(versus["difference"], versus["low"], versus["high"], "{:+.{digits}f}", "..")
    return [name, *score, difference, p_text(versus["p_holm"]), versus["verdict"]]


def _interval(mean: float, low: float, high: float, form: str, to: str) -> str:
    """'98.0 (93-99)', '-4.0 (-9..+1)': per cent or points."""
    middle, *ends = (form.format(100 * x, digits=digits) for x, digits in ((mean, 1), (low, 0), (high, 0)))
    return f"{middle} ({to.join(ends)})"


def _name(row: Mapping[str, Any], baseline: str) -> str:
    """'momentum=off' of 'atlas-nano;momentum=off'."""
    return row["model"].removeprefix(f"{baseline};")


def _why(row: Mapping[str, Any]) -> str:
    return metrics_text(row["metrics"]) if row["status"] == "ok" else f"{row['status']}: {reason(row)}"


def _say(console: Console, *texts: str) -> None:
    for text in texts:
        for line in wrapped(text) or [""]:
            console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
