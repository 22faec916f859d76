"""`atlas-bench probe`: what the parts of a trained model contribute to its score, each taken away after training.

The whole model and every altered one read the same contexts and answer the same questions. They are the models of one
plan: their records are kept like those of any run, and their answers are compared question by question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from atlas_bench import registry
from atlas_bench.comparison.paired import Comparison, compare
from atlas_bench.errors import UserError
from atlas_bench.files import output_folder
from atlas_bench.models import loading, specs
from atlas_bench.results import store
from atlas_bench.running import plan, runner
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.types import Model, TaskOptions
from atlas_bench.units import format_length, parse_lengths

QUARTER = 4  # without --reset all but the last quarter of the shortest context is forgotten


def main(
    word: str, *, task: str, lengths: Any, reset: Any, out: Path, samples: plan.Samples, seed: int, data: str,
    background: str, prompt: str, encoding: str | None, code: Iterable[str | Path], progress: Progress, **machine: Any,
) -> tuple[Comparison, bool]:  # fmt: skip
    """(the altered models compared with the whole one, whether nothing failed); records go to out/*.jsonl.

    word     a trained model: an embedded one, a folder, hf:NAME or py:FILE.py; SHOWN=MODEL shows it under another name
    lengths  of the contexts, as units.parse_lengths() takes them
    reset    tokens before a question that are remembered while all older ones are forgotten, a row for each; None: a
             quarter of the shortest context
    machine  threads, device and matmul_precision, as loading.load() takes them

    The comparison has, beside what paired.compare() states, "alterations" (name -> effect) and "notes" of the
    records. Raises UserError for every mistake before anything is written, KeyboardInterrupt on Ctrl-C.
    """
    lengths = parse_lengths(lengths)
    shown, spec = specs.shown(word)
    check(spec)
    distances = _distances(None if reset is None else parse_lengths(reset), lengths)
    for file in code:
        registry.name_file(file)
    wanted = plan.parse_tasks(task)
    output_folder.check(out)
    whole = loading.named(shown, spec, **machine)
    shown = whole.name if shown == spec else shown
    parts = take_apart(whole, distances)
    models = {shown: whole} | {f"{shown};{name}": model for name, (model, _) in parts.items()}
    cells = plan.make(
        wanted, lengths=lengths, models=list(models), seeds=[seed], samples=samples,
        options=TaskOptions(data, background, prompt, encoding),
    )  # fmt: skip
    plan.check_names(out, models)
    cells = plan.askable(cells, models, task, progress.note)
    records = runner.run(cells, models, out, Settings(), progress)
    notes = list(dict.fromkeys(record.note for record in records if record.note))
    effects = {name: effect for name, (_, effect) in parts.items()}
    comparison = compare(records, list(models)) | {"alterations": effects, "notes": notes}
    return comparison, all(record.status not in store.AGAIN for record in records)


def check(spec: str) -> None:
    """Raise UserError for an unknown model, and for a model whose parts cannot be removed here."""
    can = "Name an embedded model, a folder that `atlas-bench train` wrote, hf:NAME or py:FILE.py."
    if spec.startswith("openai:"):
        runs = f"`atlas-bench run babilong:qa1 --len 1K,4K,16K --model {spec}` shows how far it remembers"
        raise UserError(f"'{spec}' cannot be probed: its layers are on a server. {can} {runs}.")
    if spec in registry.MODELS:
        raise UserError(f"'{spec}' cannot be probed: it is a control, without weights or memory. {can}")
    specs.check(spec)


def take_apart(whole: Any, distances: Sequence[int]) -> dict[str, tuple[Model, str]]:
    """Name -> (altered model, effect): each alteration that the model has, and a reset at each distance."""
    from atlas_bench.models.alterations import Recent  # torch, which load() has imported

    parts = _parts(whole)
    for tokens in distances:
        effect = f"all that is older than {tokens:,} tokens is forgotten"
        parts[f"reset={format_length(tokens)}"] = Recent(whole, tokens), effect
    if whole.spec:  # the user gave it another name to be shown
        for name, (model, _) in parts.items():
            model.spec = f"{whole.spec};{name}"
    return parts


def _parts(whole: Any) -> dict[str, tuple[Model, str]]:
    """What can be taken away within the model; nothing is known of the layers of a user's own."""
    from atlas_bench.models.alterations import alterations, altered
    from atlas_bench.models.lm import LanguageModel

    if isinstance(whole, LanguageModel):
        return {each.name: (altered(whole, each), each.effect) for each in alterations(whole.model)}
    if not whole.name.startswith("hf:"):
        return {}
    from atlas_bench.models.huggingface.closed import Closed, has_memory

    effect = "recurrent states are empty when a question is asked"
    return {"memory=closed": (Closed(whole), effect)} if has_memory(whole) else {}


def _distances(reset: Sequence[int] | None, lengths: Sequence[int]) -> list[int]:
    """Tokens before the question that are remembered, one number for each row; none for contexts of facts alone."""
    if reset is None:
        return [last] if (last := min(lengths) // QUARTER) else []
    for tokens in reset:
        if not 0 < tokens < max(lengths):
            raise UserError(
                f"--reset {format_length(tokens)} would {'leave nothing to read' if not tokens else 'forget nothing'}: "
                f"the longest context has {format_length(max(lengths))} tokens. Give 1 or more, and fewer than that."
            )
    return list(reset)
