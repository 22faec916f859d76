"""Tasks x subsets x lengths x models x seeds -> cells, cheap ones first. Nothing is run here.

wanted = parse_tasks("babilong:qa1,babilong:qa2")
cells = make(wanted, lengths=[16_000], models=["atlas-nano"], seeds=[0], options=options)
check(cells, models)                     # every mistake is told before anything is written
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from atlas_bench import __version__, registry, units
from atlas_bench.errors import UserError, unknown
from atlas_bench.files import user_file
from atlas_bench.results.record import Record
from atlas_bench.running import resources, streams
from atlas_bench.running.stopping import Stop
from atlas_bench.types import Model, Rules, Sample, Task, TaskOptions

Samples = str | int | Mapping[Any, int] | None  # by length; None of a mapping is every other length

PROMPTS = ("bare", "official")
NO_FILES = {"generated", "pg19", "hub", "hub-1k"}  # every other --data or --background is a folder
LM_EVAL = "lm-eval:"  # what a task of lm-eval's begins with
ALL = "all"  # behind a task's colon: every subset, where the bare name stands for the usual ones

# What `run` asks where nothing else is said; docs/tasks.md shows the same table. A cell of 10M then reads
# 200M tokens: two minutes on two cores with the default model, which reads by events.
FIRST_LENGTHS, FIRST_SAMPLES = (1000, 16_000), 20  # without --len: a first look, done in less than a minute
SAMPLES = ((131_072, 100), (1 << 20, 50), (10 << 20, 20), (100 << 20, 2))  # (lengths up to, questions in each cell)


@dataclass(frozen=True)
class Cell:
    """One grid point: what is asked of whom."""

    task: str
    subset: str
    length: int
    model: str
    seed: int = 0
    samples: int = 100
    options: TaskOptions = field(default_factory=TaskOptions)
    stop: Stop | None = None

    @property
    def title(self) -> str:
        return f"{self.task}:{self.subset}" if self.subset else self.task


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
        return [(name, each) for each in meant] or [(name, "")]
    if subset not in task.subsets:
        raise unknown(f"subset of {name}", subset, task.subsets)
    return [(name, subset)]


def split_lm_eval(text: str) -> tuple[str, list[str]]:
    """(our own of comma-separated tasks, the names behind 'lm-eval:'): 'niah,lm-eval:piqa' -> 'niah', ['piqa']."""
    parts = [part.strip() for part in text.split(",")]
    theirs = [part.removeprefix(LM_EVAL) for part in parts if part.startswith(LM_EVAL)]
    return ",".join(part for part in parts if not part.startswith(LM_EVAL)), theirs


def parse_tasks(text: str) -> list[tuple[str, str]]:
    """The pairs of comma-separated tasks, each once, in the order written."""
    return list(dict.fromkeys(pair for part in text.split(",") for pair in parse_task(part)))


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
    encoding of no files, or a rule for stopping where there is no score.
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
    if stop and (bare := next((cell for cell in cells if not rules(cell, registry.task(cell.task)).scorers), None)):
        raise UserError(f"--until: task '{bare.title}' has no share of right answers. Leave it out for this task.")
    return list(dict.fromkeys(cells))


def check(cells: Iterable[Cell], models: Mapping[str, Model]) -> None:
    """Raise UserError where a cell's samples cannot be made: too short, no data, no background, too few."""
    seen = set()
    for cell in cells:
        tokenizer, task = models[cell.model].tokenizer, registry.task(cell.task)
        asked = replace(cell, model=tokenizer.key)
        if asked not in seen:
            try:
                task.check(cell.subset, cell.length, tokenizer, cell.options)
                # how many there are is known to the samples only: they say so with the first one
                next(samples(cell, task, models[cell.model]))
            except Exception as error:
                if isinstance(error, UserError) or not registry.is_file(cell.task):
                    raise
                told = user_file.told(error, inspect.getfile(type(task)))
                raise UserError(f"task '{cell.title}' makes no sample of {cell.length} tokens: {told}.") from None
            seen.add(asked)


def samples(cell: Cell, task: Task, model: Model) -> Iterator[Sample]:
    """The cell's samples in the model's tokens; what the model puts around a prompt comes on top of the length."""
    made = task.samples(cell.subset, cell.length, cell.samples, cell.seed, model.tokenizer, cell.options)
    before, after = around(rules(cell, task), model)
    return streams.wrapped(made, before, after) if before or after else iter(made)


def rules(cell: Cell, task: Task) -> Rules:
    """How the cell's questions are answered and judged."""
    if hasattr(task, "rules_for"):
        rules: Rules = task.rules_for(cell.subset, cell.options)
        return rules
    return task.rules(cell.subset)


def around(rules: Rules, model: Model) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids that the model puts before a context and behind a question: round a text that is no prompt, few."""
    if not rules.scorers:
        return tuple(model.opening), ()
    before, after = model.wrap
    return tuple(before), tuple(after)


def prompt_length(cell: Cell, rules: Rules, model: Model) -> int:
    """Tokens of a prompt of the cell as the model reads it."""
    reserved = rules.max_answer_tokens * rules.counts_answer
    return cell.length - reserved + sum(map(len, around(rules, model)))


def protocol(cell: Cell, task: Task, model: Model) -> dict[str, Any]:
    """What decides a cell's answers beside its name: how long they may be, what ends them, and what is asked.

    `sample` is a hash of the cell's first sample, in the model's tokens and with what the model puts around it. It
    changes with the text of a task, a prompt or a template, and with the data and the background that are read. Where
    the answers decide when to stop, `stopping` is the rule.
    """
    ruled = rules(cell, task)
    stopping = {"stopping": cell.stop.facts()} if cell.stop else {}
    return stopping | {
        "max_answer_tokens": ruled.max_answer_tokens,
        "stop": list(ruled.stop),
        "generation": dict(model.facts().get("generation") or {}),
        "sample": _sample_hash(cell, task, model),
    }


def _sample_hash(cell: Cell, task: Task, model: Model) -> str | None:
    """First 16 hex digits of the sha256 of the cell's first sample; None where it cannot be made, which a run tells."""
    try:
        first = next(samples(replace(cell, samples=1), task, model))
    except Exception:
        return None
    made_from = {name: first.meta.get(name) for name in ("plan_hash", "corpus_key", "data_key", "prompt_hash")}
    told = [first.length, first.reads, first.asked, first.targets, around(rules(cell, task), model), made_from]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def blank(cell: Cell, task: Task, model: Model) -> Record:
    """The cell's record before it has run: identity, model and surroundings; its cell_key is the cell's."""
    facts, ruled = model.facts(), rules(cell, task)
    told = {f.name for f in fields(Record)} & facts.keys() - {"status", "state_bytes"}
    return Record(
        status="failed",
        reason="not run",
        task=cell.task,
        task_version=task.version,
        subset=cell.subset,
        length=cell.length,
        model=cell.model,
        seed=cell.seed,
        samples=cell.samples,
        options=cell.options.given(),
        protocol=protocol(cell, task, model),
        scorer_version={name: scorer.version for name, scorer in ruled.scorers.items()},
        headline=next(iter(ruled.scorers), None),
        chance=ruled.chance if ruled.scorers else None,
        model_spec=model.spec,
        note=untrained(cell.title, facts.get("learnt")),
        tokenizer_key=model.tokenizer.key,
        versions={"atlas_bench": __version__, "python": platform.python_version(), **_versions()},
        hardware={"cpu": cpu(), "cores": _cores(), "gpu": facts.get("gpu")},
        command=resources.command_line(),
        **{name: facts[name] for name in sorted(told)},
    )


def untrained(title: str, learnt: Sequence[str] | None) -> str | None:
    """What a record notes where the model's card names what it was trained on, and that is not this task and subset."""
    if learnt is None or title in learnt or title.partition(":")[0] in learnt:
        return None
    return f"the model was never trained for this, by its card for {', '.join(learnt)} alone"


def _versions() -> dict[str, str | None]:
    """Of what decides the numbers, without importing it."""
    found: dict[str, str | None] = {}
    for name in ("torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def cpu() -> str:
    """The processor's name; platform.processor() is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _cores() -> int | None:
    """Cores this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
