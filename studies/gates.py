"""What a memory writes of background, against the length at which it forgets.

    python -m studies.gates run [--model NAME] [--samples 5]   asks; goes on where it was stopped
    python -m studies.gates show                                the table, and docs/gates.svg, from the records
    python -m studies.gates openings [--model NAME]             what of 20M tokens of background opens the screen

One trained model is asked the same questions with its screen's bias moved by SHIFTS, and with nothing else changed. A
higher bias lets more background through, and what is written of it displaces facts; a lower one lets less through, and
begins to miss facts. What is written is counted on COUNTED tokens of the evaluation's own generator that state nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from atlas_bench.results import store
from atlas_bench.stats import intervals
from atlas_bench.units import format_length
from studies.headline import with_bars

SHIFTS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0, 12.0)  # of a hard sigmoid's logit: 0 below -3, 1 above 3
LENGTHS = (64_000, 1_000_000, 10_000_000)
TASKS = "babilong:qa1,babilong:qa2,babilong:qa3,babilong:qa4,babilong:qa5"
COUNTED = 500_000  # tokens
SEARCHED, PIECE = 20_000_000, 1 << 18  # tokens
RECORDS, SHARES = Path("results/gates"), Path("results/gates/shares.json")
PICTURE = Path("docs/gates.svg")
SCORER = "babilong/official"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "show", "openings"])
    parser.add_argument("--model", default="gated-deltanet-nano")
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    if options.what == "run":
        run(options.model, options.samples)
    elif options.what == "openings":
        openings(options.model)
    else:
        show()


def name_of(model: str, shift: float) -> str:
    """Of a model whose screen's bias is moved."""
    return f"{model}{shift:+g}"


def run(model: str, samples: int) -> None:
    """The same questions to the model with each shift, shortest first; and the share of background that is written."""
    import torch

    from atlas_bench.models import events, loading
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.running import plan, runner
    from atlas_bench.running.progress import Progress
    from atlas_bench.running.settings import Settings
    from atlas_bench.tasks import corpora
    from atlas_bench.training import loop, texts

    torch.set_num_threads(1)
    background = texts.clean([corpora.open_corpus("generated", embedded())], COUNTED)
    shares = json.loads(SHARES.read_text()) if SHARES.exists() else {}
    for shift in SHIFTS:
        name, shifted = name_of(model, shift), loading.load(model)
        shifted.name = name
        with torch.no_grad():
            shifted.model.screen.out.bias += shift
        shifted.events = events.EventReader(shifted.model)
        if name not in shares:
            screen, *layers = loop.open_shares(shifted.model, background)
            shares[name] = {"model": model, "shift": shift, "screen": screen, "written": max(layers)}
            SHARES.parent.mkdir(parents=True, exist_ok=True)
            SHARES.write_text(json.dumps(shares, indent=1) + "\n")
        cells = plan.make(plan.parse_tasks(TASKS), lengths=LENGTHS, models=[name], samples=samples)
        runner.run(cells, {name: shifted}, RECORDS, Settings(), Progress(quiet=True))


def openings(model: str) -> None:
    """Prints how often clean background opens the screen, and the text before each of the first of them."""
    import torch

    from atlas_bench.models import loading
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.tasks import corpora
    from atlas_bench.training import texts

    torch.set_num_threads(1)
    tokenizer, reader = embedded(), loading.load(model)
    background = texts.clean([corpora.open_corpus("generated", tokenizer)], SEARCHED)[0]
    state, found = reader.start(1), []
    with torch.inference_mode():
        for start in range(0, SEARCHED, PIECE):
            tokens = torch.from_numpy(background[None, start : start + PIECE]).long()
            screen, state[0]["screen"] = reader.events.screen(state, tokens)
            found += [(start + i, float(screen[0, i])) for i in (screen[0] > 0).nonzero()[:, 0].tolist()]
    print(f"{model}: {len(found)} of {format_length(SEARCHED)} tokens, {len(found) / SEARCHED:.6%}")
    for place, gate in found[:40]:
        print(f"{gate:5.2f}  {tokenizer.decode(background[max(0, place - 7) : place + 1].tolist())!r}")


def read() -> pd.DataFrame:
    """A line for each shift and length: right and asked over qa1 to qa5, and what is written."""
    shares = json.loads(SHARES.read_text())
    rows = [
        {"name": record.model, "length": record.length, "task": record.subset}
        | {"right": record.scores[SCORER]["correct"], "asked": record.scores[SCORER]["n"]}
        for record in store.latest(store.read_all([RECORDS])[0])
        if record.status == "ok" and record.model in shares
    ]
    scores = pd.DataFrame(rows).groupby(["name", "length"], as_index=False)
    scores = scores.agg(right=("right", "sum"), asked=("asked", "sum"), tasks=("task", "nunique"))
    scores = scores[scores.tasks == scores.tasks.max()]  # a cell that lacks a task is no mean
    return scores.merge(pd.DataFrame(shares).T.rename_axis("name").reset_index(), on="name")


def show() -> None:
    """Prints the table and draws the picture."""
    scores = read()
    for model, rows in scores.groupby("model"):
        print(f"\n{model}\n")
        rows = rows.assign(score=[_score(row.right, row.asked) for row in rows.itertuples()])
        wide = (
            rows.pivot(index=["shift", "screen", "written"], columns="length", values="score")
            .sort_index()
            .reset_index()
        )
        for share in ("screen", "written"):
            wide[share] = [f"{100 * value:.4f} %" for value in wide[share]]
        wide.columns = [column if isinstance(column, str) else format_length(column) for column in wide.columns]
        print(wide.fillna("").to_markdown(index=False))
    draw(scores)


def _score(right: float, asked: float) -> str:
    low, high = intervals.wilson(right, asked)
    return f"{100 * right / asked:.0f} ({100 * low:.0f}-{100 * high:.0f})"


def draw(scores: pd.DataFrame) -> None:
    """Per cent right against the background tokens that were written, a line for each length."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "gates"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    for i, (length, rows) in enumerate(scores.groupby("length")):
        rows = rows.sort_values("written")
        written = [max(share * length, 0.1) for share in rows.written]
        share, bars = with_bars(rows)
        axes.errorbar(
            written, share, yerr=bars, marker="o", markersize=4, capsize=2, color=f"C{i}",
            label=f"{format_length(length)} tokens",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    axes.set_xlabel("background tokens that the layer which writes most writes, in the whole context")
    axes.set_ylabel("BABILong qa1 to qa5, mean: right, %")
    axes.legend(fontsize=8, loc="lower left")
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
