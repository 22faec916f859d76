"""`atlas-bench compare`: train the untrained candidates, ask all of them the same questions, compare the records.

job = prepare(["titans", "atlas-nano"], task="mqar:8", lengths="1K", ..)    # raises every mistake
job.estimate()                                                              # what it would take
comparison, well = job.run()                                                # from here on files are written
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from atlas_bench.files import output_folder, text_files
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.running import announce, estimate, plan, runner
from atlas_bench.running.evaluation import Cell, Evaluation, rules_of
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.running.stopping import Verdict
from atlas_bench.training.recipe import Recipe
from atlas_bench.types import Model, TaskOptions
from atlas_bench.units import format_count

SAMPLES = 200  # questions in each cell of a length that --samples does not name


def prepare(
    words: Sequence[str | Model], *, task: str, lengths: Any, out: Path, train: str | int | None, seeds: int,
    rates: int, init: str | None, samples: plan.Samples, sequential: bool, seed: int, data: str, background: str,
    prompt: str, encoding: str | None, jobs: int, device: str | None, code: Iterable[str | Path], progress: Progress,
    command: str | None = None,
) -> Job:  # fmt: skip
    """The comparison that a user asks for.

    words       candidates as candidates.py knows them, the baseline first
    train       budget of each training, one for every candidate, task, seed and rate; None trains nobody
    seeds       trainings of each, from `seed` on; each is asked questions of its own
    rates       learning rates to choose from, by the first seed's loss on held-out lessons
    sequential  ask no more in a cell once its verdict against the baseline, which is asked everything, is decided
    background  of the questions, and of training where it is not the generated one
    encoding    of the files of data and background, None for UTF-8
    device      "cpu" or "cuda", that models are trained and asked on; None: a GPU where torch sees one
    command     that records name as theirs; None: what was typed

    Raises UserError for every mistake before anything is trained or written.
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
    cells = _cells(entrants, wanted, lengths, all_seeds, numbers, TaskOptions(data, background, prompt, encoding))
    planned = []
    if tokens is not None:
        planned = _trainings(
            entrants, wanted, tokens, out / "models", seeds=all_seeds, rates=trainings.factors(rates), init=init,
            backgrounds=[] if background == "generated" else [background],
            encoding=None if background in plan.NO_FILES else encoding, device=device,
        )  # fmt: skip
        loading.checked(device, None)
    output_folder.check(out)
    ready = _ready(entrants, device)
    reader = loading.load("oracle")
    asking = {each.label: ready.get(each.label, reader) for each in entrants}
    cells = {name: plan.askable(cells[name], asking, task, progress.note) for name in wanted}
    return Job(
        entrants, wanted, cells, planned, tokens, all_seeds, rates, init, ready, reader, out, sequential, jobs, device,
        Settings(command=command), progress,
    )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A comparison as it was asked for, checked and ready.

    entrants    the candidates, the baseline first
    cells       of each task, of all seeds
    planned     trainings of the candidates that are memories, at every rate
    tokens      of one training, None where nobody is trained
    ready       label -> model of the other candidates
    reader      has the tokenizer that every model trained here will have
    sequential  ask no more in a cell once its verdict against the baseline, which is asked everything, is decided
    """

    entrants: Sequence[Candidate]
    wanted: Mapping[str, Sequence[str]]
    cells: Mapping[str, Sequence[Cell]]
    planned: Sequence[Training]
    tokens: int | None
    seeds: Sequence[int]
    rates: int
    init: str | None
    ready: Mapping[str, Model]
    reader: Model
    out: Path
    sequential: bool
    jobs: int
    device: str | None
    settings: Settings
    progress: Progress

    def estimate(self) -> dict[str, Any]:
        """The estimate of estimate.py as plain data, and how many trainings come before; nothing is run or written."""
        todo = self._to_train()
        groups = self._groups([] if todo else self._compared(trainings.choose(self._first(), ())), {})
        evaluations = [each for group in groups for each in runner.evaluations_of(*group)]
        estimated = estimate.of(evaluations, self.out, self.settings, progress=self.progress)
        estimated["training"] = {"trainings": len(todo), "tokens_each": self.tokens}
        if todo:
            note = (
                f"{self._budget(todo)}. Of unknown time, and not in the total: {announce.reading(self._untrained())}."
            )
            estimated["notes"].append(note)
        if self.sequential:
            note = "--sequential: a cell may end before its samples do; this is what all of them would take."
            estimated["notes"].append(note)
        return estimated

    def run(self) -> tuple[Comparison, bool]:
        """(the comparison, whether nothing failed); records go to out/*.jsonl, models to out/models.

        Raises KeyboardInterrupt on Ctrl-C, UserError if a record cannot be written.
        """
        if todo := self._to_train():
            known = [each for group in self._groups([], {}) for each in runner.evaluations_of(*group)]
            self._say(announce.wrapped(f"{self._budget(todo)}; then {announce.reading([*known, *self._untrained()])}."))
        failed = workers.train_all(self._first(), jobs=self.jobs, say=self.progress.note)
        rated = trainings.choose(self._first(), failed)
        compared = self._compared(rated)
        later = [each for each in compared if each not in self._first()]
        failed |= workers.train_all(later, jobs=self.jobs, say=self.progress.note)
        groups = self._groups(compared, failed)
        if not self.progress.quiet:
            waiting = [(runner.missing(cells, models, self.out), models) for cells, models in groups]
            evaluations = [each for group in waiting for each in runner.evaluations_of(*group)]
            self._say(announce.lines(evaluations, self.settings))
        records = [record for group in groups for record in self._asked(*group)]
        lost = {(each.candidate.label, each.task, each.seed): failed.get(each.folder) for each in compared}
        for cell in (cell for name in self.wanted for cell in self.cells[name]):
            if reason := lost.get((cell.model, cell.task, cell.seed)):
                records.append(_failed(cell, reason))
        comparison = compare_records(records, [each.label for each in self.entrants])
        about = self.seeds, self.rates, self.wanted, self.init, list(self.ready)
        comparison["training"] = None if self.tokens is None else _said(self.tokens, *about)
        comparison["rates"] = rated if self.rates > 1 else []
        return comparison, all(record.status not in store.AGAIN for record in records)

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.progress.note(line)

    def _first(self) -> list[Training]:
        """The trainings that the rates are chosen by: the first seed's; of one rate, all."""
        return [each for each in self.planned if self.rates == 1 or each.seed == self.seeds[0]]

    def _compared(self, rated: Iterable[Mapping[str, Any]]) -> list[Training]:
        """The trainings at the chosen rates, which trainings.choose() gives."""
        chosen = {(each["candidate"], each["task"]): each["chosen"] for each in rated}
        return [each for each in self.planned if each.rate == chosen[each.candidate.label, each.task]]

    def _to_train(self) -> list[Training]:
        """The trainings that are still to be done; of seeds whose rate is not chosen yet, those at the usual rate."""
        left = [each for each in self._first() if not workers.is_done(each)]
        usual = [each for each in self.planned if each.rate == trainings.USUAL]
        later = usual if left else self._compared(trainings.choose(self._first(), ()))
        return left + [each for each in later if each not in self._first() and not workers.is_done(each)]

    def _budget(self, todo: Sequence[Training]) -> str:
        """'4 trainings of 20.0M tokens each, 2 at once'."""
        if len(todo) == 1:
            return f"1 training of {format_count(self.tokens or 0)} tokens"
        at_once = min(self.jobs, len(todo))
        return f"{len(todo)} trainings of {format_count(self.tokens or 0)} tokens each, {at_once} at once"

    def _untrained(self) -> list[Evaluation]:
        """The cells of the candidates that are memories, as any model of the same tokenizer would read them."""
        cells = [cell for name in self.wanted for cell in self.cells[name] if cell.model not in self.ready]
        return runner.evaluations_of(cells, dict.fromkeys((cell.model for cell in cells), self.reader))

    def _groups(
        self, compared: Sequence[Training], failed: Mapping[Path, str]
    ) -> list[tuple[list[Cell], dict[str, Model]]]:
        """(the cells of one task and seed whose models are there, these models), in the order of the records."""
        groups = []
        for name, seed in product(self.wanted, self.seeds):
            mine = [each for each in compared if (each.task, each.seed) == (name, seed) and each.folder not in failed]
            models = {each.candidate.label: loading.load(str(each.folder), device=self.device) for each in mine}
            models = {**self.ready, **models}
            cells = [cell for cell in self.cells[name] if cell.seed == seed and cell.model in models]
            groups.append((cells, models))
        return groups

    def _asked(self, cells: Sequence[Cell], models: Mapping[str, Model]) -> list[Record]:
        """Records of the cells of one task and seed."""
        baseline = self.entrants[0].label
        comparisons = sum(map(len, self.cells.values())) * (len(self.entrants) - 1) // len(self.entrants)
        ask = partial(runner.run, models=models, folder=self.out, settings=self.settings, progress=self.progress)
        first = [cell for cell in cells if self.sequential and cell.model == baseline]
        records = ask(first)
        rules = {(record.subset, record.length): _verdict(record, comparisons) for record in records}
        later = [replace(cell, stop=rules.get((cell.subset, cell.length))) for cell in cells if cell not in first]
        return [*records, *ask(later)]


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
    said = f"Trained by one recipe {trainings.beginning(init, wanted)}: {tokens:,} tokens a model{each}, "
    said += "each stage to the end of its last contexts; "
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
