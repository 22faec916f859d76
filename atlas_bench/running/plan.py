"""Tasks x subsets x lengths x models x seeds -> cells, cheap ones first. Nothing is run here.

wanted = parse_tasks("babilong:qa1,babilong:qa2")
cells = make(wanted, lengths=[16_000], models=["atlas-nano"], seeds=[0], options=options)
check(cells, models)                     # raises every mistake before anything is written
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from atlas_bench import registry, units
from atlas_bench.errors import UserError, unknown
from atlas_bench.files import user_file
from atlas_bench.results import store
from atlas_bench.running.evaluation import Cell, Evaluation, rules_of
from atlas_bench.running.stopping import Stop
from atlas_bench.types import Model, PromptName, TaskOptions

Samples = str | int | Mapping[Any, int] | None  # by length; None of a mapping is every other length

PROMPTS: tuple[str, ...] = get_args(PromptName)
NO_FILES = {"generated", "pg19", "hub", "hub-1k"}  # every other --data or --background is a folder
LM_EVAL = "lm-eval:"  # what a task of lm-eval's begins with
ALL = "all"  # after a task's colon: every subset, where the bare name stands for the usual ones

# What `run` asks where nothing else is said; docs/tasks.md shows the same table. A cell of 10M then reads
# 200M tokens: two minutes on two cores with the default model, which reads by events.
FIRST_LENGTHS, FIRST_SAMPLES = (1000, 16_000), 20  # without --len: a first look, done in less than a minute
SAMPLES = ((131_072, 100), (1 << 20, 50), (10 << 20, 20), (100 << 20, 2))  # (lengths up to, questions in each cell)


def parse_task(text: str) -> list[tuple[str, str]]:
    """(task, subset) pairs of one written task: 'babilong:qa1'; 'babilong' for its usual subsets; 'babilong:all'.

    text  as the user typed it: a file, './my_task.py:easy', is executed
    Raises UserError for a task or subset that does not exist, or is lm-eval's.
    """
    if text.strip().startswith(LM_EVAL):
        raise UserError(
            f"'{text.strip()}' can be run, and nothing else: it is neither compared, described nor trained on. "
            "`atlas-bench lm-eval ls tasks` lists lm-eval's tasks."
        )
    name, subset = registry.parted(text.strip())
    if registry.is_file(name):
        name = registry.name_task(name)
    task = registry.task(name)
    if subset is None or (subset == ALL and ALL not in task.subsets):
        meant = task.subsets if subset else getattr(task, "usual", task.subsets)
        return [(name, subset) for subset in meant] or [(name, "")]
    if subset not in task.subsets:
        raise unknown(f"subset of {name}", subset, task.subsets)
    return [(name, subset)]


def split_lm_eval(text: str) -> tuple[str, list[str]]:
    """(our own of comma-separated tasks, the names after 'lm-eval:'): 'niah,lm-eval:piqa' -> 'niah', ['piqa']."""
    parts = registry.split_tasks(text)
    theirs = [part.removeprefix(LM_EVAL) for part in parts if part.startswith(LM_EVAL)]
    return ",".join(part for part in parts if not part.startswith(LM_EVAL)), theirs


def parse_tasks(text: str) -> list[tuple[str, str]]:
    """The pairs of comma-separated tasks, each once, in the order written: 'babilong:qa1,qa2' has two."""
    return list(dict.fromkeys(pair for pairs in _parts(text) for pair in pairs))


def _parts(text: str) -> Iterator[list[tuple[str, str]]]:
    """The pairs of each part of comma-separated tasks."""
    name = ""
    for part in registry.split_tasks(text):
        follows = registry.is_file(name) and part not in registry.TASKS and part in registry.task(name).subsets
        pairs = [(name, part)] if follows else parse_task(part)
        name = pairs[-1][0]
        yield pairs


def subsets(text: str) -> dict[str, list[str]]:
    """Task -> its subsets, of comma-separated tasks."""
    wanted: dict[str, list[str]] = {}
    for name, subset in parse_tasks(text):
        wanted.setdefault(name, []).append(subset)
    return wanted


def check_lessons(tasks: Iterable[str]) -> None:
    """Raise UserError for a task that cannot teach."""
    for name in tasks:
        if not registry.teaches(name):
            teaching = [other for other in registry.TASKS if registry.teaches(other)]
            raise UserError(f"task '{name}' has no lessons to train on. These have: {', '.join(teaching)}.")


def default_samples(length: int) -> int:
    """Questions in each cell of that length where the user names no number: SAMPLES, and 1 beyond its end."""
    return next((questions for longest, questions in SAMPLES if length <= longest), 1)


def questions(samples: Samples, lengths: Iterable[int]) -> dict[int, int]:
    """Length -> questions in each cell; UserError for a number that is for a length which nobody asks for."""
    numbers, lengths = units.parse_samples(samples), list(lengths)
    if unasked := [length for length in numbers if length is not None and length not in lengths]:
        asked = ",".join(map(units.format_length, sorted(lengths)))
        raise UserError(
            f"--samples has a number for {units.format_length(unasked[0])}, and --len asks for {asked}. Name a length "
            "of --len, or add this one there."
        )
    return {length: numbers.get(length, numbers.get(None) or default_samples(length)) for length in lengths}


def make(
    wanted: Iterable[tuple[str, str]],
    *,
    lengths: Sequence[int],
    models: Sequence[str],
    seeds: Sequence[int] = (0,),
    samples: Samples = None,
    stop: Stop | None = None,
    options: TaskOptions = TaskOptions(),  # noqa: B008 - frozen
) -> list[Cell]:
    """All cells, short ones first, each once; options go to the tasks that take them.

    samples  questions in each cell as units.parse_samples() takes them; of a length without a number what
             default_samples() has
    stop     when a cell needs no more answers; None: when all are there

    Raises UserError for fewer than one sample, samples of a length that is not among `lengths`, an unknown prompt, an
    encoding without files, or a stopping rule for a task without a score.
    """
    if not lengths or not seeds:
        raise UserError(f"no {'seed' if lengths else 'length'} is given: there would be nothing to run.")
    numbers = questions(samples, lengths)
    if options.prompt not in PROMPTS:
        raise unknown("prompt", options.prompt, PROMPTS)
    if options.encoding and {options.data, options.background} <= NO_FILES:
        raise UserError(
            f"--encoding '{options.encoding}' would do nothing: neither --data nor --background is a folder of files."
            " Leave it out."
        )
    wanted = list(wanted)
    reading = {name for name, _ in wanted if registry.reads_text(name)}
    own = {name: TaskOptions() for name, _ in wanted if reading and name not in reading}
    cells = [
        Cell(task, subset, length, model, seed, numbers[length], own.get(task, options), stop)
        for length in sorted(lengths)
        for task, subset in wanted
        for model in models
        for seed in seeds
    ]
    bare = (cell for cell in cells if not rules_of(cell, registry.task(cell.task)).scorers)
    if stop and (cell := next(bare, None)):
        raise UserError(f"--until: task '{cell.title}' has no share of right answers. Leave it out for this task.")
    return list(dict.fromkeys(cells))


def check(cells: Iterable[Cell], models: Mapping[str, Model]) -> None:
    """Raise UserError if a cell's samples cannot be made: too short, no data, no background, too few.

    Of cells that differ in the seed alone the first is tried: what a seed may do to a cell becomes its record's reason.
    """
    for _, fault in _faults(cells, models):
        if fault:
            raise fault


def askable(cells: Sequence[Cell], models: Mapping[str, Model], tasks: str, note: Callable[[str], Any]) -> list[Cell]:
    """The cells whose samples can be made; the others are left out for all models, and one note says why.

    tasks  as the user wrote them: a subset that is written out is not left out

    Raises UserError as check() does, for a cell of such a subset and where nothing of a task is left at some length.
    """
    named = {pairs[0] for pairs in _parts(tasks) if len(pairs) == 1} if cells else set()
    faults: dict[tuple[str, int, str], UserError] = {}
    for cell, fault in _faults(cells, models):
        if fault and (cell.task, cell.subset) in named:
            raise fault
        if fault:
            faults[cell.task, cell.length, cell.subset] = fault
    kept = [cell for cell in cells if (cell.task, cell.length, cell.subset) not in faults]
    left = {(cell.task, cell.length) for cell in kept}
    for (task, length, _), fault in faults.items():
        if (task, length) not in left:
            raise fault
    if faults:
        why = (f"{task}:{subset} at {units.format_length(n)}: {fault}" for (task, n, subset), fault in faults.items())
        note(f"left out, since no subset was named: {' '.join(why)}")
    return kept


def _faults(cells: Iterable[Cell], models: Mapping[str, Model]) -> Iterator[tuple[Cell, UserError | None]]:
    """Each cell, and why its samples cannot be made; None if they can."""
    known: dict[Cell, UserError | None] = {}
    for cell in cells:
        asked = replace(cell, model=models[cell.model].tokenizer.key, seed=0, part=None)
        if asked not in known:
            known[asked] = _fault(cell, models[cell.model])
        yield cell, known[asked]


def _fault(cell: Cell, model: Model) -> UserError | None:
    task = registry.task(cell.task)
    try:
        task.check(cell.subset, cell.length, model.tokenizer, cell.options)
        # how many there are is known to the samples only: they say so with the first one
        next(Evaluation(cell, task, model).samples())
    except UserError as error:
        return error
    except Exception as error:
        if not registry.is_file(cell.task):
            raise
        cause = user_file.describe_error(error, inspect.getfile(type(task)))
        return UserError(f"task '{cell.title}' makes no sample of {cell.length} tokens: {cause}.")
    return None


def check_names(folder: Path, models: Mapping[str, Model]) -> None:
    """Raise UserError where the user's own name of a model stands for another one in the folder's records.

    models  name -> model; those with a `spec` were named by the user, and equal weights are the same model
    """
    named = {name: model for name, model in models.items() if model.spec}
    if not named or not folder.exists():
        return
    for record in store.scan(folder, lambda message: None):
        if record.model not in named or record.model_spec == (model := named[record.model]).spec:
            continue
        if record.weights_hash is None or record.weights_hash != model.facts().get("weights_hash"):
            stands = record.model_spec or record.model
            raise UserError(
                f"the name '{record.model}' stands for '{stands}' in '{folder}', and now for '{model.spec}'. Give it "
                "another name, or another --out."
            )
