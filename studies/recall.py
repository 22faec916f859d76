"""Size against recall: MQAR accuracy beside bytes of state, for the rows of the family at one training budget.

    python -m studies.recall run [--jobs 2]    trains and asks; goes on where it was stopped
    python -m studies.recall show              the table of docs/results.md and docs/recall.svg, from the records

For each number of heads (128 numbers of width are shared out by them, so fewer heads are a larger state) one
backbone is trained, with Gated DeltaNet as its memory. Every row is then put into it, gates and memory new where
their shapes differ, and trained on OWN tokens of the same lessons in the same order, paced by tokens. Contexts hold
up to 128 pairs in 64 to 512 tokens. Asked are 512 questions about 8, 32 and 128 pairs in 1000 tokens, through the
real runner.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

HEADS = (8, 4)
BACKBONE = 1_500_000
OWN = 300_000
LENGTH, QUESTIONS, PAIRS = 1000, 512, ("8", "32", "128")
ROWS = (
    "linear-attention", "deltanet", "gated-deltanet", "deep-transformer", "dot",
    "omeganet:degree=1,omega_window=1", "omeganet:degree=1", "omeganet:degree=1,omega_window=16",
    "omeganet", "omeganet:features=monomials", "omeganet:map=mlp", "surprise-omeganet",
    "ttt-linear", "ttt-mlp", "dla", "titans:map=matrix", "titans",
    "atlas:degree=1", "atlas:omega_window=1", "atlas:muon=none", "atlas:muon=plain", "atlas", "atlas++",
)  # fmt: skip
MODELS, RECORDS = Path("runs/recall"), Path("results/recall")
TASKS = ("mqar:128", "mqar:128-spread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "show", "one"])
    parser.add_argument("row", nargs="?")
    parser.add_argument("heads", nargs="?", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.what == "show":
        show()
    elif options.what == "one":
        train(options.row, options.heads)
    else:
        run(options.jobs)


def run(jobs: int) -> None:
    """Backbones first, then all rows, each in a process of its own; then the questions."""

    def one(job: tuple[str, int]) -> None:
        row, heads = job
        if not (folder(row, heads) / "card.json").exists():
            done = subprocess.run([sys.executable, "-m", "studies.recall", "one", row, str(heads)])
            print(f"{'trained' if done.returncode == 0 else 'FAILED'}: {row}, {heads} heads", flush=True)
        if row != "backbone" and (folder(row, heads) / "card.json").exists():
            ask(row, heads)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [("backbone", heads) for heads in HEADS]))
        list(pool.map(one, [(row, heads) for row in ROWS for heads in HEADS]))


def train(row: str, heads: int) -> None:
    """Trains one row (or a backbone) into its folder."""
    import torch

    from atlas_bench import registry
    from atlas_bench.models import loading
    from atlas_bench.models.config import Config
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.training import command, loop
    from atlas_bench.training.recipe import Recipe

    torch.set_num_threads(1)
    name, given = registry.typed_memory("gated-deltanet" if row == "backbone" else row)
    config = Config(memory=name, memory_options=given, n_heads=heads)
    recipe = Recipe(
        tasks=TASKS, longest=512, segment=128, stream_length=512, stream_tokens=0, paced=row != "backbone",
        curriculum_tokens=int(0.7 * BACKBONE), mixed_tokens=int(0.3 * BACKBONE),
    )  # fmt: skip
    origin, warm = None, None
    if row != "backbone":
        recipe = replace(
            recipe, first_length=128, least_tokens=1024, warmup_steps=20, patience=0.4,
            curriculum_tokens=OWN // 2, mixed_tokens=OWN // 2,
        )  # fmt: skip
        origin = command.origin_of(str(folder("backbone", heads)))
        warm = loading.read_weights(folder("backbone", heads) / loading.WEIGHTS)
    lessons = registry.task("mqar").lessons(("128", "128-spread"), embedded(), 0, [])
    out = folder(row, heads)
    model, progress = loop.train(config, recipe, lessons.seeded, out, warm_start=warm)
    loading.save(out, model, command.describe_run(recipe, progress, {}, [], origin, {}))
    (out / "checkpoint.safetensors").unlink()


def ask(row: str, heads: int) -> None:
    """The same questions to every model, as `atlas-bench run` asks them."""
    words = ["run", ",".join(f"mqar:{pairs}" for pairs in PAIRS), "--len", str(LENGTH), "--samples", str(QUESTIONS)]
    words += ["--model", str(folder(row, heads)), "--out", str(RECORDS), "--threads", "1", "--quiet"]
    subprocess.run([sys.executable, "-m", "atlas_bench", *words], check=True, stdout=subprocess.DEVNULL)


def folder(row: str, heads: int) -> Path:
    """Where a row's model lies."""
    return MODELS / f"{row.replace(':', '_')}_{heads}h"


def show() -> None:
    """Prints the table, one line for each row and number of heads, and draws the plot."""
    from atlas_bench.results import store

    cells = defaultdict(dict)
    for record in store.latest(store.read_all(RECORDS)[0]):
        cells[Path(record.model).name][record.subset] = record
    asked = " | ".join(f"{pairs} pairs" for pairs in PAIRS)
    print(f"| memory | heads | state | {asked} | trained on | tokens/s |")
    print("|---|---|---|" + "---|" * (len(PAIRS) + 2))
    points = []
    for row in ROWS:
        for heads in HEADS:
            found = cells.get(folder(row, heads).name)
            if not found:
                print(f"| `{row}` | {heads} | | " + " | ".join("" for _ in PAIRS) + " | not run | |")
                continue
            shown = [_score(found.get(pairs)) for pairs in PAIRS]
            first = next(iter(found.values()))
            size, rate = first.state_bytes, max(record.tokens_per_second or 0 for record in found.values())
            print(
                f"| `{row}` | {heads} | {size / 1024:.0f} KiB | {' | '.join(shown)} "
                f"| {first.training_tokens / 1e6:.2f}M | {rate:,.0f} |"
            )
            if PAIRS[-1] in found and found[PAIRS[-1]].status == "ok":
                score = next(iter(found[PAIRS[-1]].scores.values()))
                points.append((row, heads, size, 100 * score["correct"] / score["n"]))
    draw(points, Path("docs/recall.svg"))


def _score(record) -> str:
    """'99.4 (98-100)', or the status of a cell without a score."""
    from atlas_bench.stats import intervals

    if record is None or record.status != "ok":
        return "not run" if record is None else record.status
    score = next(iter(record.scores.values()))
    low, high = intervals.wilson(score["correct"], score["n"])
    return f"{100 * score['correct'] / score['n']:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def draw(points: list[tuple[str, int, int, float]], path: Path) -> None:
    """Accuracy on 128 pairs against bytes of state, one line for each row."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "recall"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    markers = {"matrix": "o", "deep": "^"}
    for i, row in enumerate(dict.fromkeys(point[0] for point in points)):
        own = sorted((size / 1024, score) for name, _, size, score in points if name == row)
        sizes, scores = zip(*own, strict=True)
        deep = row.startswith(("atlas", "dla", "ttt-mlp", "omeganet:map")) or row == "titans"
        marker = markers["deep" if deep else "matrix"]
        axes.plot(sizes, scores, marker=marker, label=row, color=plt.cm.tab20(i % 20), linestyle="--" if deep else "-")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("state, KiB (two layers, attention's window included)")
    axes.set_ylabel("MQAR, 128 pairs in 1000 tokens: right, %")
    axes.set_ylim(0, 102)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
