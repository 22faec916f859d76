"""Which update rules track a state: each trained on parity and on words of S5, then asked far beyond its lengths.

    python -m studies.track --tokens 2M          trains, asks, prints the table; goes on where it was stopped
    python -m studies.track --show               the table alone, from the records

Every row is trained from nothing on --tokens of the same lessons in the same order, in contexts of up to LONGEST
tokens, every token supervised. Attention has a window of one token and there is no short convolution: what is known
of an earlier token has passed through the memory, so that no shortcut over a few tens of tokens is possible. Asked is
1, 10 and 100 times LONGEST, and a million tokens, by `atlas-bench run`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas_bench.units import format_length, parse_length

ROWS = (
    "deltanet", "deltanet:negative_eigenvalues=true",
    "gated-deltanet", "gated-deltanet:negative_eigenvalues=true",
    "deltaproduct:forgetting=false", "deltaproduct", "deltaproduct:steps=4", "mamba2",
)  # fmt: skip
SUBSETS = ("parity", "s5")
LONGEST = 256  # tokens of a context in training
SAMPLES = {LONGEST: 200, 10 * LONGEST: 200, 100 * LONGEST: 200, 1_000_000: 20}  # length -> questions, ten on a stream
MODELS, RECORDS = Path("runs/track"), Path("results")  # `run` appends to RECORDS/track.jsonl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=parse_length, default=2_000_000, help="of each training")
    parser.add_argument("--subset", action="append", help="these alone, in this order [parity, s5]")
    parser.add_argument("--row", action="append", help="memories as `train --memory` takes them [all of ROWS]")
    parser.add_argument("--seed", type=int, default=0, help="of lessons and new weights")
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args()
    rows = options.row or ROWS
    if not options.show:
        check(rows)
    for subset in () if options.show else options.subset or SUBSETS:
        for row in rows:
            model = folder(subset, row, options.seed)
            train(model, row, subset, options.seed, options.tokens)
            ask(model, subset)
    print("\n".join(table()))


def check(rows: Sequence[str]) -> None:
    """Raise UserError for a row that is no memory, before hours are spent on those before it."""
    from atlas_bench import registry

    for row in rows:
        registry.typed_memory(row)


def folder(subset: str, row: str, seed: int) -> Path:
    """Where a model lies; row_of() reads its name."""
    return MODELS / subset / f"{row.replace(':', '+')}.seed{seed}"


def row_of(model: str) -> tuple[str, int]:
    """(memory, seed) of a model's folder."""
    row, _, seed = Path(model).name.rpartition(".seed")
    return row.replace("+", ":"), int(seed)


def recipe_of(subset: str, seed: int, tokens: int) -> Any:
    """Lengths double by tokens alone, so that all rows get the same lessons; then noise on the write gates gives them a
    margin, without which a state that holds for 256 tokens fades after thousands."""
    from atlas_bench.training.recipe import Recipe

    return Recipe(
        tasks=(f"track:{subset}",), seed=seed, paced=True, first_length=32, longest=LONGEST, segment=LONGEST,
        contexts=4, least_tokens=512, curriculum_tokens=tokens // 2, mixed_tokens=tokens - tokens // 2,
        stream_tokens=0, stream_length=LONGEST,
    )  # fmt: skip


def train(out: Path, row: str, subset: str, seed: int, tokens: int) -> None:
    """One model, unless it is there; a training that was stopped goes on at its checkpoint."""
    import torch

    from atlas_bench import registry
    from atlas_bench.models import loading
    from atlas_bench.models.decoder import Config
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.training import checkpoint, command, loop

    if (out / loading.CARD).exists():
        return
    torch.set_num_threads(1)
    memory, given = registry.typed_memory(row)
    recipe = recipe_of(subset, seed, tokens)
    lessons = registry.task("track").lessons((subset,), embedded(), seed)
    config = Config(memory=memory, memory_options=given, attention_window=1)
    print(f"{out}", flush=True)
    report = command.Reporter(recipe, lambda line: print(line, flush=True))
    model, progress = loop.train(config, recipe, lessons.seeded, out, report=report)
    loading.save(out, model, command.describe_run(recipe, progress, {}, [], None, {}))
    (out / checkpoint.FILE).unlink()


def ask(model: Path, subset: str) -> None:
    """The same questions to every model; what has been asked is not asked again."""
    for length, samples in SAMPLES.items():
        words = ["run", f"track:{subset}", "--len", str(length), "--samples", str(samples), "--model", str(model)]
        words += ["--out", str(RECORDS), "--threads", "1", "--quiet"]
        subprocess.run([sys.executable, "-m", "atlas_bench", *words], check=True, stdout=subprocess.DEVNULL)


def table() -> list[str]:
    """Lines of Markdown: for each subset a row for each memory and seed, lengths across."""
    from atlas_bench.results import store

    file = RECORDS / "track.jsonl"
    cells: dict[str, dict[tuple[str, int], dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for record in store.latest(store.read_all([file])[0]) if file.exists() else ():
        if Path(record.model).is_relative_to(MODELS):
            cells[record.subset][row_of(record.model)][record.length] = record
    lines = []
    for subset, rows in cells.items():
        lines += [f"**track:{subset}**", "", f"| memory | seed | {' | '.join(map(format_length, SAMPLES))} | state |"]
        lines.append("|---|---|" + "---|" * (len(SAMPLES) + 1))
        for (row, seed), by_length in rows.items():
            size = max(record.state_bytes or 0 for record in by_length.values()) / 1024
            scores = " | ".join(score(by_length.get(length)) for length in SAMPLES)
            lines.append(f"| `{row}` | {seed} | {scores} | {size:.0f} KiB |")
        lines.append("")
    return lines


def score(record: Any) -> str:
    """'99.4 (98-100)', the interval over streams, or why there is none."""
    from atlas_bench.comparison import paired

    if record is None or record.status != "ok":
        return "not run" if record is None else record.status
    found = paired.score(record)
    return f"{100 * found['accuracy']:.1f} ({100 * found['low']:.0f}-{100 * found['high']:.0f})"


if __name__ == "__main__":
    main()
