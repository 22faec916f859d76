"""`atlas-bench compare`: train the untrained candidates, ask all of them the same questions, compare the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from atlas_bench import registry, units
from atlas_bench.comparison import candidates, trainings, workers
from atlas_bench.comparison.candidates import Candidate
from atlas_bench.comparison.paired import Comparison
from atlas_bench.comparison.paired import compare as compare_records
from atlas_bench.comparison.trainings import Training
from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.running import plan, runner
from atlas_bench.running.evaluation import Cell, rules_of
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.running.stopping import Verdict
from atlas_bench.training.recipe import Recipe
from atlas_bench.types import Model, TaskOptions

SAMPLES = 200  # questions in each cell of a length that --samples does not name


def main(
    words: Sequence[str | Model], *, task: str, lengths: Any, out: Path, train: str | int | None, seeds: int,
    rates: int, init: str | None, samples: plan.Samples, sequential: bool, seed: int, data: str, background: str,
    encoding: str | None, jobs: int, device: str | None, code: Iterable[str | Path], progress: Progress,
    command: str | None = None,
) -> tuple[Comparison, bool]:  # fmt: skip
    """(the comparison, whether nothing failed); records go to out/*.jsonl, models to out/models.

    words       candidates as candidates.py knows them, the baseline first
    train       budget of each training, one for every candidate, task, seed and rate; None trains nobody
    seeds       trainings of each, from `seed` on; each is asked questions of its own
    rates       learning rates to choose from, by the first seed's loss on held-out lessons
    sequential  ask no more in a cell once its verdict against the baseline, which is asked everything, is decided
    background  of the questions, and of training where it is not the generated one
    encoding    of the files of data and background, None for UTF-8
    device      "cpu" or "cuda", that models are trained and asked on; None: a GPU where torch sees one
    command     that records name as theirs; None: what was typed

    Raises UserError for every mistake before anything is trained or written, KeyboardInterrupt on Ctrl-C.
    """
    lengths = units.parse_lengths(lengths)
    numbers = {None: SAMPLES} | units.parse_samples(samples)
    tokens = None if train is None else units.parse_length(train)
    encoding = encoding and text_files.known(encoding)
    jobs = units.whole("jobs", jobs, least=1)
    number = units.whole("seeds", seeds, least=1, most=100)
    rates = units.whole("rates", rates, least=1, most=trainings.MOST_RATES)
    seed = units.whole("seed", seed, least=-units.SEEDS, most=units.SEEDS + 1 - number)
    _check_trainings(tokens, number, rates, init, sequential)
    for file in code:
        registry.name_file(file)
    entrants = candidates.resolve(words, train=tokens is not None)
    wanted, all_seeds = plan.subsets(task), list(range(seed, seed + number))
    cells = _cells(entrants, wanted, lengths, all_seeds, numbers, TaskOptions(data, background, encoding=encoding))
    planned = []
    if tokens is not None:
        planned = _trainings(
            entrants, wanted, tokens, out / "models", seeds=all_seeds, rates=trainings.factors(rates), init=init,
            backgrounds=[] if background == "generated" else [background],
            encoding=None if background in plan.NO_FILES else encoding, device=device,
        )  # fmt: skip
        loading.checked(device, None)
    store.check_writable(out)
    load = partial(loading.load, device=device)
    ready = _ready(entrants, device)
    reader = loading.load("oracle")  # has the tokenizer that every model trained here will have
    for name in wanted:
        plan.check(cells[name], {each.label: ready.get(each.label, reader) for each in entrants})
    compared, failed, rated = _trained(planned, seed, rates, jobs, progress)
    ask = partial(runner.run, folder=out, settings=Settings(command=command), progress=progress)
    comparisons = sum(map(len, cells.values())) * (len(entrants) - 1) // len(entrants) if sequential else 0
    records = []
    for name, one in product(wanted, all_seeds):
        folders = {each.candidate.label: each.folder for each in compared if (each.task, each.seed) == (name, one)}
        mine = [cell for cell in cells[name] if cell.seed == one]
        records += _asked(mine, ready, folders, failed, load, ask, entrants[0].label, comparisons)
    comparison = compare_records(records, [each.label for each in entrants])
    comparison["training"] = None if tokens is None else _said(tokens, all_seeds, rates, wanted, init, list(ready))
    comparison["rates"] = rated if rates > 1 else []
    return comparison, all(record.status not in store.AGAIN for record in records)


def _cells(
    entrants: Sequence[Candidate], wanted: Mapping[str, Sequence[str]], lengths: Sequence[int], seeds: Sequence[int],
    samples: plan.Samples, options: TaskOptions,
) -> dict[str, list[Cell]]:  # fmt: skip
    """The cells of each task."""
    return {
        name: plan.make(
            [(name, subset) for subset in subsets], lengths=lengths, models=[each.label for each in entrants],
            seeds=seeds, samples=samples, options=_options(name, wanted, options),
        )
        for name, subsets in wanted.items()
    }  # fmt: skip


def _ready(entrants: Iterable[Candidate], device: str | None) -> dict[str, Model]:
    """Label -> model of the candidates that need no training."""
    return {
        each.label: loading.named(each.label, each.model, device=device) if isinstance(each.model, str) else each.model
        for each in entrants
        if each.model
    }


def _trained(
    planned: Sequence[Training], seed: int, rates: int, jobs: int, progress: Progress
) -> tuple[list[Training], dict[Path, str], list[dict[str, Any]]]:
    """(the trainings that are compared, folder -> why a training failed, the rates as trainings.choose() gives them).

    Of several rates the first seed chooses; the other seeds are trained at that rate alone.
    """
    first = [each for each in planned if rates == 1 or each.seed == seed]
    failed = workers.train_all(first, jobs=jobs, say=progress.note)
    rated = trainings.choose(first, failed)
    chosen = {(each["candidate"], each["task"]): each["chosen"] for each in rated}
    compared = [each for each in planned if each.rate == chosen[each.candidate.label, each.task]]
    failed |= workers.train_all([each for each in compared if each not in first], jobs=jobs, say=progress.note)
    return compared, failed, rated


def _check_trainings(tokens: int | None, seeds: int, rates: int, init: str | None, sequential: bool) -> None:
    """Raise UserError for options of training without training, and for what cannot be had together."""
    if tokens is None:
        for option, given, what in (
            (f"--init {init}", init, "is where training begins"),
            (f"--seeds {seeds}", seeds > 1, "are trainings"),
            (f"--rates {rates}", rates > 1, "are learning rates of trainings"),
        ):
            if given:
                raise UserError(f"{option} {what}. Add --train TOKENS, or leave it out.")
    if sequential and seeds > 1:
        raise UserError(
            f"--sequential stops a cell by the answers of one training, and --seeds {seeds} asks for a verdict over "
            "trainings, which needs all of them. Leave one out."
        )


def _trainings(
    entrants: Sequence[Candidate], wanted: Mapping[str, Sequence[str]], tokens: int, folder: Path, **options: Any
) -> list[Training]:
    plan.check_lessons(wanted)
    for name, subsets in wanted.items():
        if not all(registry.task(name).rules(subset).scorers for subset in subsets):
            raise UserError(
                f"--train: task '{name}' has no right answers to compare by. Train each candidate with "
                f"`atlas-bench train --task {name}`, and read their losses by `atlas-bench run {name}`."
            )
    Recipe().within(tokens)  # tells a budget that is too small
    planned = trainings.trainings(entrants, wanted, tokens, folder, **options)
    if not planned:
        raise UserError("all candidates are trained models, so --train would do nothing. Leave it out.")
    return planned


def _asked(
    cells: Sequence[Cell], ready: Mapping[str, Model], folders: Mapping[str, Path], failed: Mapping[Path, str],
    load: Callable[[str], Model], ask: Callable[..., list[Record]], baseline: str, comparisons: int,
) -> list[Record]:  # fmt: skip
    """Records of the cells of one task and seed.

    ready, folders  label -> model that was there before, or folder of one that was trained
    failed          folder -> why its training failed
    comparisons     with --sequential, how many verdicts there are to be in all; 0: every cell is asked everything
    """
    lost = {label: failed[folder] for label, folder in folders.items() if folder in failed}
    trained = {label: load(str(path)) for label, path in folders.items() if label not in lost}
    models = {**ready, **trained}
    runnable = [cell for cell in cells if cell.model in models]
    first = [cell for cell in runnable if comparisons and cell.model == baseline]
    records = ask(first, models)
    rules = {(record.subset, record.length): _verdict(record, comparisons) for record in records}
    later = [replace(cell, stop=rules.get((cell.subset, cell.length))) for cell in runnable if cell not in first]
    lacking = [_failed(cell, lost[cell.model]) for cell in cells if cell.model in lost]
    return [*records, *ask(later, models), *lacking]


def _verdict(baseline: Record, comparisons: int) -> Verdict | None:
    """The rule that stops a candidate's cell, where the baseline has a score in it."""
    if baseline.status != "ok" or baseline.headline is None:
        return None
    judged = [answer for answer in baseline.answers if baseline.headline in answer["correct"]]
    scores = {answer["index"]: float(answer["correct"][baseline.headline]) for answer in judged}
    return Verdict(baseline.model, baseline.weights_hash, comparisons, scores)


def _said(
    tokens: int, seeds: Sequence[int], rates: int, wanted: Mapping[str, Any], init: str | None, ready: Sequence[str]
) -> str:
    """How the candidates were trained, on what budget, and of what a verdict then speaks."""
    each = f", one for each of {', '.join(wanted)}" if len(wanted) > 1 else ""
    said = f"Trained by one recipe {trainings.beginning(init, wanted)}: {tokens:,} tokens a model{each}; "
    said += f"seed {seeds[0]}." if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}."
    if rates > 1:
        said += (
            f" Each of {rates} learning rates was tried with seed {seeds[0]}; the one with the least loss on held-out "
            f"lessons is compared, {rates + len(seeds) - 1} trainings for all alike."
        )
    if len(seeds) == 1:
        said += " From one seed only: verdicts are about these weights, and another seed may turn them (--seeds 3)."
    if ready and (rates > 1 or len(seeds) > 1):
        said += f" Trained before, once each: {', '.join(ready)}; no other seed or rate of these was tried."
    return said


def _options(name: str, wanted: Iterable[str], options: TaskOptions) -> TaskOptions:
    """The data choices, for tasks that have any; a choice that no task reads is refused by the task itself."""
    reads = [each for each in wanted if registry.reads_text(each)]
    return options if name in reads or not reads else TaskOptions()


def _failed(cell: Cell, reason: str) -> Record:
    """The record of a cell whose model could not be trained; it is not kept on disk, because no cell has run."""
    task = registry.task(cell.task)
    rules = rules_of(cell, task)
    return Record(
        status="failed", reason=f"training failed: {reason}", task=cell.task, task_version=task.version,
        subset=cell.subset, length=cell.length, model=cell.model, seed=cell.seed, samples=cell.samples,
        options=cell.options.given(), headline=next(iter(rules.scorers), None), chance=rules.chance,
    )  # fmt: skip
