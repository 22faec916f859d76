"""Atlas with each ingredient taken away, or carried further, by training: all at one budget, on the same lessons.

    python -m studies.atlas --out runs/atlas             trains, asks, prints the table; goes on where it was stopped
    python -m studies.atlas --out results/atlas --show   the table alone, from the records that lie there
    python -m studies.atlas --out runs/qa --task babilong:qa1,babilong:qa2 --init gated-deltanet-nano

For each task all variants begin from one backbone: the model of --init, an embedded one that was taught the task, or
Gated DeltaNet trained on it here. Embeddings, attention, MLP and the projections are kept; gates and memory are new
where their names or shapes differ. Each variant is then trained on --tokens of the same lessons in the same order,
their lengths paced by tokens, once for each seed of lessons and new weights, and asked the same questions by
`atlas-bench run`. Differences to `atlas` are those of `atlas-bench compare`: question by question, the answers of all
seeds together, contexts as the units.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

BASELINE = "atlas"
VARIANTS = {  # in the order in which they are trained
    BASELINE: "whole",
    "atlas:muon=none": "without Muon",
    "atlas:omega_window=1": "without a window",
    "atlas:most_momentum=0": "without momentum",
    "atlas:degree=1": "without features",
    "atlas:forgetting=false": "without forgetting",
    "atlas:features=monomials": "all monomials of degree 2",
    "atlas:most_momentum=1": "momentum up to 1",
    "atlas:window_counts=written": "the window counts written tokens",
    "titans": "",
    "omeganet": "",
    "gated-deltanet": "the backbone, trained on",
}
QUESTIONS = {"mqar": 1536, "retention": 220, "babilong": 100}  # of a task and subset
EMBEDDED = {"retention:end": "gated-deltanet-retention-nano"}  # task -> a model that knows it
LENGTH = 1000  # tokens of a context asked about
RATES = {"muon_lr": 0.01, "adam_lr": 6e-3}  # above the recipe's: budgets are short


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of models and records")
    parser.add_argument("--task", default="mqar:128,retention:end", help="a training of each variant for each of them")
    parser.add_argument("--tokens", type=int, default=200_000, help="of one training")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="these alone, in this order")
    parser.add_argument("--backbone-tokens", type=int, default=1_500_000, help="of a backbone's training")
    parser.add_argument("--init", help="a model to begin from")
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args()
    if not options.show:
        run(options)
    print("\n".join(table(options.out)))


def run(options: argparse.Namespace) -> None:
    """Trains and asks what has not been; records are appended to OUT/TASK.jsonl."""
    for task in options.task.split(","):
        begin = options.init or EMBEDDED.get(task)
        if begin is None:
            begin = str(folder(options.out, task, "backbone", 0))
            train(Path(begin), "gated-deltanet", task, 0, options.backbone_tokens)
        for variant in options.variant or VARIANTS:
            models = [folder(options.out, task, variant, seed) for seed in range(options.seeds)]
            for seed, model in enumerate(models):
                train(model, variant, task, seed, options.tokens, init=begin)
            ask(models, task, options.out)


def folder(out: Path, task: str, variant: str, seed: int) -> Path:
    """Where a model lies; variant_of() reads its name."""
    return out / "models" / task.replace(":", "-") / f"{variant.replace(':', '+')}.seed{seed}"


def variant_of(model: str) -> tuple[str, int]:
    """(variant, seed) of a model's folder."""
    variant, _, seed = Path(model).name.rpartition(".seed")
    return variant.replace("+", ":"), int(seed)


def train(out: Path, variant: str, task: str, seed: int, tokens: int, *, init: str | None = None) -> None:
    """One model, unless it is there; a training that was stopped goes on at its checkpoint."""
    import torch

    from atlas_bench import registry
    from atlas_bench.models import loading
    from atlas_bench.models.config import Config
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.running import plan
    from atlas_bench.tasks import corpora
    from atlas_bench.training import checkpoint, command, loop
    from atlas_bench.training.recipe import Recipe

    if (out / loading.CARD).exists():
        return
    torch.set_num_threads(1)
    memory, given = registry.typed_memory(variant)
    recipe = Recipe(
        tasks=(task,), seed=seed, longest=512, segment=128, stream_length=512,
        curriculum_tokens=int(0.7 * tokens), mixed_tokens=int(0.3 * tokens), stream_tokens=0, **RATES,
    )  # fmt: skip
    if init is None:
        config, origin, weights = Config(), None, None
    else:
        config, origin = Config(**loading.card(init)["config"]), command.origin_of(init)
        weights = loading.read_weights(loading.folder_of(init) / loading.WEIGHTS)
        recipe = replace(recipe, paced=True, first_length=128, least_tokens=1024, warmup_steps=5)
    config = replace(config, memory=memory, memory_options=given)
    tokenizer, (name, subsets) = embedded(), next(iter(plan.subsets(task).items()))
    texts = [corpora.open_corpus("generated", tokenizer)] if registry.reads_text(name) else []
    lessons = registry.task(name).lessons(subsets, tokenizer, seed, texts)
    model, progress = loop.train(config, recipe, lessons.seeded, out, warm_start=weights)
    loading.save(out, model, command.describe_run(recipe, progress, {}, [], origin, {}))
    (out / checkpoint.FILE).unlink()
    print(f"{out}: {progress.tokens:,} tokens in {progress.seconds / 60:.1f} minutes, {progress.last}", flush=True)


def ask(models: Sequence[Path], task: str, out: Path) -> None:
    """The same questions to every model; what has been asked is not asked again."""
    words = ["run", task, "--len", str(LENGTH), "--samples", str(QUESTIONS[task.partition(":")[0]])]
    words += ["--model", ",".join(map(str, models)), "--out", str(out), "--threads", "1", "--quiet"]
    subprocess.run([sys.executable, "-m", "atlas_bench", *words], check=True, stdout=subprocess.DEVNULL)


# The table ---------------------------------------------------------------------------------------------------


def table(out: Path) -> list[str]:
    """Lines of Markdown: for each task a row for each variant, each seed's score and the difference to `atlas`."""
    from atlas_bench.comparison import paired
    from atlas_bench.results import store

    cells: dict[str, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for record in store.latest(store.read_all(out)[0]):
        if record.status == "ok":
            variant, seed = variant_of(record.model)
            cells[f"{record.task}:{record.subset}"][variant][seed] = record
    differences = {
        (task, variant): versus(variants[variant], variants[BASELINE])
        for task, variants in cells.items()
        for variant in VARIANTS
        if variant != BASELINE and variants.keys() >= {variant, BASELINE}
    }
    paired.judge([each for each in differences.values() if each])
    lines = []
    for task, variants in cells.items():
        seeds = sorted({seed for records in variants.values() for seed in records})
        lines += ["", f"**{task}**, {LENGTH} tokens", ""]
        lines.append(
            f"| memory | | {' | '.join(f'seed {seed}' for seed in seeds)} | difference to `{BASELINE}` | p | state |"
        )
        lines.append("|---|---|" + "---|" * (len(seeds) + 3))
        for variant, what in VARIANTS.items():
            if records := variants.get(variant):
                scores = " | ".join(score(records.get(seed)) for seed in seeds)
                said, p = verdict(differences.get((task, variant)))
                size = next(iter(records.values())).state_bytes / 1024
                lines.append(f"| `{variant}` | {what} | {scores} | {said} | {p} | {size:.0f} KiB |")
    return lines


def versus(records: dict[int, Any], baseline: dict[int, Any]) -> dict[str, Any] | None:
    """compare's paired difference over the seeds that both have; None where they have none."""
    from atlas_bench.comparison import paired

    seeds = sorted(records.keys() & baseline.keys())
    answers = [pair for seed in seeds for pair in paired.pairs(records[seed], baseline[seed])]
    return paired.difference(answers, scorer=records[seeds[0]].headline) if answers else None


def score(record: Any) -> str:
    """'99.4 (98-100), n 220', the interval over contexts."""
    from atlas_bench.comparison import paired

    if record is None:
        return "not run"
    found = paired.score(record)
    return f"{100 * found['accuracy']:.1f} ({100 * found['low']:.0f}-{100 * found['high']:.0f}), n {found['n']}"


def verdict(versus: dict[str, Any] | None) -> tuple[str, str]:
    """('-3.1 (-5.0..-1.2)', '0.021 worse')."""
    from atlas_bench.comparison.labels import p_text

    if versus is None:
        return "", ""
    points = [100 * versus[name] for name in ("difference", "low", "high")]
    told = "" if versus["verdict"] == "not separable" else f" {versus['verdict']}"
    return "{:+.1f} ({:+.1f}..{:+.1f})".format(*points), p_text(versus["p_holm"]) + told


if __name__ == "__main__":
    main()
