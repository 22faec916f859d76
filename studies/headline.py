"""qa1 to qa5 by the length of the context: the tables of docs/results.md and the picture docs/headline.svg.

    python -m studies.headline          prints the tables and draws the picture, from results/five.jsonl

A mean is over qa1 to qa5 and stands only where all five were asked; its interval is Wilson's over all their questions.
All seeds are counted together. Published means are drawn beside, dotted: others' data, lengths, training and scorers.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from atlas_bench.results import reference, store
from atlas_bench.stats import intervals
from atlas_bench.units import format_length

RECORDS, PICTURE = Path("results/five.jsonl"), Path("docs/headline.svg")
TASKS = ["qa1", "qa2", "qa3", "qa4", "qa5"]
SCORER = "babilong/official"
GENERATED = "generated"
BESIDE = ("ARMT 137M, fine-tuned", "RMT 137M, fine-tuned", "Llama-3.1-70B", "GPT-4-0125")  # of results/reference.csv
BAR = 80.0  # per cent, what the ATLAS paper says of 10M tokens


def main() -> None:
    scores = read(RECORDS)
    for (data, model), rows in scores.groupby(["data", "model"], sort=False):
        print(f"\n{model}, {data}\n")
        print(table(rows).to_markdown())
    draw(scores[scores.data == GENERATED], PICTURE)


def read(path: Path) -> pd.DataFrame:
    """A line for each model, data, length and task: right and asked, all seeds together.

    A cell that was asked again with more questions of the same seed counts once, with all of them.
    """
    rows = [
        {
            "data": GENERATED if record.options["data"] == GENERATED else "real stories, held-out novel",
            "model": record.model,
            "length": record.length,
            "task": record.subset,
            "seed": record.seed,
            "right": record.scores[SCORER]["correct"],
            "asked": record.scores[SCORER]["n"],
        }
        for record in store.latest(store.read_all([path])[0])
        if record.status == "ok" and record.subset in TASKS
    ]
    keys = ["data", "model", "length", "task"]
    largest = pd.DataFrame(rows).sort_values("asked").drop_duplicates([*keys, "seed"], keep="last").sort_index()
    return largest.drop(columns="seed").groupby(keys, sort=False, as_index=False).sum()


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Right and asked by length, of the five tasks together, where all five were asked."""
    by_length = rows.groupby("length").agg(right=("right", "sum"), asked=("asked", "sum"), tasks=("task", "nunique"))
    return by_length[by_length.tasks == len(TASKS)]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Lengths down, tasks and their mean across: '97 (91-99)', and how many were asked of each."""
    cells = rows.pivot(index="length", columns="task", values=["right", "asked"]).sort_index()
    shown = pd.DataFrame(index=cells.index)
    for task in [task for task in TASKS if task in rows.task.values]:
        pairs = zip(cells["right", task], cells["asked", task], strict=True)
        shown[task] = [_score(*pair) for pair in pairs]
    mean = means(rows)
    shown["mean"] = pd.Series({i: _score(m.right, m.asked, 1) for i, m in mean.iterrows()}, dtype=object)
    least, most = cells["asked"].min(axis=1), cells["asked"].max(axis=1)
    shown["n"] = [f"{a:.0f}" if a == b else f"{a:.0f}-{b:.0f}" for a, b in zip(least, most, strict=True)]
    shown.index = [format_length(length) for length in shown.index]
    return shown.fillna("")


def _score(right: float, asked: float, digits: int = 0) -> str:
    if pd.isna(asked):
        return ""
    low, high = intervals.wilson(right, asked)
    return f"{100 * right / asked:.{digits}f} ({100 * low:.0f}-{100 * high:.0f})"


def with_bars(rows: pd.DataFrame) -> tuple[list[float], list[list[float]]]:
    """Per cent right of each row, and how far its 95 % interval reaches below and above, as matplotlib takes it."""
    share = [100 * row.right / row.asked for row in rows.itertuples()]
    ends = [intervals.wilson(row.right, row.asked) for row in rows.itertuples()]
    below = [each - 100 * low for each, (low, _) in zip(share, ends, strict=True)]
    return share, [below, [100 * high - each for each, (_, high) in zip(share, ends, strict=True)]]


def draw(scores: pd.DataFrame, path: Path) -> None:
    """Means by length with their intervals, and the published ones."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "headline"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    for i, (model, rows) in enumerate(scores.groupby("model", sort=False)):
        mean = means(rows)
        share, bars = with_bars(mean)
        axes.errorbar(
            mean.index, share, yerr=bars, marker="o", markersize=4, capsize=2, color=f"C{i}", label=f"{model} (here)"
        )
    for i, model in enumerate(BESIDE):
        points = {row.length: row.value for row in _published(model)}
        axes.plot(
            list(points), list(points.values()), marker="x", linestyle=":", color=str(0.15 + 0.18 * i),
            label=f"{model} (published)",
        )  # fmt: skip
    axes.axhline(BAR, color="0.8", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    axes.set_xlabel("tokens of context")
    axes.set_ylabel("BABILong qa1 to qa5, mean: right, %")
    axes.legend(fontsize=8, loc="lower left")
    figure.savefig(path, metadata={"Date": None})


def _published(model: str) -> list[reference.Published]:
    """The model's means from 1K on, in order; a mean derived from the tasks instead of a quoted one."""
    rows = [row for row in reference.ROWS if row.model == model and row.subset == "qa1-5 mean"]
    rows = sorted((row for row in rows if row.length and row.unit == "%"), key=lambda row: row.kind, reverse=True)
    return sorted({row.length: row for row in rows}.values(), key=lambda row: row.length)


if __name__ == "__main__":
    main()
