"""`atlas-bench compare`: train who is not trained yet, ask all of them the same, compare the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas_bench import registry, units
from atlas_bench.comparison import candidates
from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.compare import Comparison
from atlas_bench.results.compare import compare as compare_records
from atlas_bench.results.record import Record
from atlas_bench.running import plan, runner
from atlas_bench.running.evaluation import Cell, rules_of
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.training.recipe import Recipe
from atlas_bench.types import Model, TaskOptions


def main(
    words: Sequence[str | Model], *, task: str, lengths: Any, out: Path, train: str | int | None, init: str | None,
    samples: int, seed: int, data: str, background: str, encoding: str | None, jobs: int, code: Iterable[str | Path],
    progress: Progress, command: str | None = None,
) -> tuple[Comparison, bool]:  # fmt: skip
    """(the comparison, whether nothing failed); records go to out/*.jsonl, models to out/models.

    words       contenders as contenders.py knows them, the baseline first
    train       budget of each training, one for every contender and task; None trains nobody
    background  of the questions, and of training where it is not the generated one
    encoding    of the files of data and background, None for UTF-8
    command     that records name as theirs; None: what was typed

    Raises UserError for every mistake before anything is trained or written, KeyboardInterrupt on Ctrl-C.
    """
    lengths = units.parse_lengths(lengths)
    tokens = None if train is None else units.parse_length(train)
    encoding = encoding and text_files.known(encoding)
    jobs = units.whole("jobs", jobs, least=1)
    seed = units.whole("seed", seed, least=-units.SEEDS, most=units.SEEDS)
    for file in code:
        registry.name_file(file)
    entrants = candidates.resolve(words, train=tokens is not None)
    wanted = plan.subsets(task)
    options = TaskOptions(data, background, encoding=encoding)
    cells = {
        name: plan.make(
            [(name, subset) for subset in subsets], lengths=lengths, models=[each.label for each in entrants],
            seeds=[seed], samples=samples, options=_options(name, wanted, options),
        )
        for name, subsets in wanted.items()
    }  # fmt: skip
    planned = []
    if tokens is not None:
        planned = _trainings(
            entrants, wanted, tokens, out / "models", seed=seed, init=init,
            backgrounds=[] if background == "generated" else [background],
            encoding=None if background in plan.NO_FILES else encoding,
        )  # fmt: skip
    elif init:
        raise UserError(f"--init {init} is where training begins. Add --train TOKENS, or leave it out.")
    store.check_writable(out)
    ready = {
        each.label: loading.named(each.label, each.model) if isinstance(each.model, str) else each.model
        for each in entrants
        if each.model
    }
    reader = loading.load("oracle")  # has the tokenizer that every model trained here will have
    for name in wanted:
        plan.check(cells[name], {each.label: ready.get(each.label, reader) for each in entrants})
    reasons = candidates.train_all(planned, jobs=jobs, say=progress.note)
    records = []
    for name in wanted:
        folders = {each.contender.label: each.folder for each in planned if each.task == name}
        models = ready | {
            label: loading.load(str(folder)) for label, folder in folders.items() if (label, name) not in reasons
        }
        runnable = [cell for cell in cells[name] if cell.model in models]
        records += runner.run(runnable, models, out, Settings(command=command), progress)
        records += [_failed(cell, reasons[cell.model, name]) for cell in cells[name] if cell.model not in models]
    comparison = compare_records(records, [each.label for each in entrants])
    comparison["training"] = None
    if tokens is not None:
        each = f", one for each of {', '.join(wanted)}" if len(wanted) > 1 else ""
        begun = candidates.beginning(init, wanted)
        comparison["training"] = f"Trained by one recipe {begun}: {tokens:,} tokens a model{each}; seed {seed}."
    return comparison, all(record.status not in store.AGAIN for record in records)


def _trainings(
    entrants: Sequence[candidates.Contender], wanted: Mapping[str, Sequence[str]], tokens: int, folder: Path,
    **options: Any,
) -> list[candidates.Training]:  # fmt: skip
    plan.check_lessons(wanted)
    Recipe().within(tokens)  # tells a budget that is too small
    planned = candidates.trainings(entrants, wanted, tokens, folder, **options)
    if not planned:
        raise UserError("all contenders are trained models, so --train would do nothing. Leave it out.")
    return planned


def _options(name: str, wanted: Iterable[str], options: TaskOptions) -> TaskOptions:
    """The data choices, for tasks that have any; a choice that no task reads is refused by the task itself."""
    reads = [each for each in wanted if registry.reads_text(each)]
    return options if name in reads or not reads else TaskOptions()


def _failed(cell: Cell, reason: str) -> Record:
    """What stands for a cell whose model could not be trained; not kept on disk, for no cell has run."""
    task = registry.task(cell.task)
    rules = rules_of(cell, task)
    return Record(
        status="failed", reason=f"training failed: {reason}", task=cell.task, task_version=task.version,
        subset=cell.subset, length=cell.length, model=cell.model, seed=cell.seed, samples=cell.samples,
        options=cell.options.given(), headline=next(iter(rules.scorers), None), chance=rules.chance,
    )  # fmt: skip
