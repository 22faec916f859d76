"""Tasks x subsets x lengths x models x seeds -> cells, cheap ones first. Nothing is run here.

wanted = parse_tasks("babilong:qa1,babilong:qa2")
cells = make(wanted, lengths=[16_000], models=["atlas-nano"], seeds=[0], samples=100, options=options)
check(cells, models)                     # every mistake is told before anything is written
"""

from __future__ import annotations

import inspect
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from atlas_bench import __version__, gauges, registry, streams, user_file
from atlas_bench.errors import UserError, unknown
from atlas_bench.results.record import Record
from atlas_bench.types import Model, Rules, Sample, Task, TaskOptions

PROMPTS = ("bare", "official")
LM_EVAL = "lm-eval:"  # what a task of lm-eval's begins with


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

    @property
    def title(self) -> str:
        return f"{self.task}:{self.subset}" if self.subset else self.task


def parse_task(text: str) -> list[tuple[str, str]]:
    """(task, subset) pairs of one written task: 'babilong:qa1', or 'babilong' for all its subsets.

    text  as the user typed it: a file, './my_task.py:easy', is executed
    Raises UserError for a task or subset that does not exist, or is lm-eval's.
    """
    if text.strip().startswith(LM_EVAL):
        raise UserError(
            f"'{text.strip()}' can be run, and nothing else: it is neither compared, described nor trained on. "
            "`atlas-bench lm-eval ls tasks` lists lm-eval's tasks."
        )
    name, subset = re.fullmatch(r"(.*?\.py(?:@[0-9a-f]+)?|[^:]*)(?::(.*))?", text.strip(), re.DOTALL).groups()
    if registry.is_file(name):
        name = registry.name_task(name)
    task = registry.task(name)
    if subset is None:
        return [(name, each) for each in task.subsets] or [(name, "")]
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
        if not hasattr(registry.task(name), "lessons"):
            teaching = [other for other in registry.TASKS if hasattr(registry.task(other), "lessons")]
            raise UserError(f"task '{name}' has no lessons to train on. These have: {', '.join(teaching)}.")


def make(
    wanted: Iterable[tuple[str, str]],
    *,
    lengths: Sequence[int],
    models: Sequence[str],
    seeds: Sequence[int] = (0,),
    samples: int = 100,
    options: TaskOptions = TaskOptions(),  # noqa: B008 - frozen
) -> list[Cell]:
    """All cells, short ones first, each once; options go to the tasks that take them.

    Raises UserError for fewer than one sample or an unknown prompt.
    """
    if samples < 1:
        raise UserError(f"samples is {samples}. Ask for one or more.")
    if options.prompt not in PROMPTS:
        raise unknown("prompt", options.prompt, PROMPTS)
    wanted = list(wanted)
    reading = {name for name, _ in wanted if getattr(registry.task(name), "reads_text", True)}
    own = {name: TaskOptions() for name, _ in wanted if reading and name not in reading}
    cells = [
        Cell(task, subset, length, model, seed, samples, own.get(task, options))
        for length in sorted(lengths)
        for task, subset in wanted
        for model in models
        for seed in seeds
    ]
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
    before, after = around(task.rules(cell.subset), model)
    return streams.wrapped(made, before, after) if before or after else iter(made)


def around(rules: Rules, model: Model) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids that the model puts before a context and behind a question: round a text that is no prompt, few."""
    if not rules.scorers:
        return tuple(getattr(model, "opening", ())), ()
    before, after = getattr(model, "wrap", ((), ()))
    return tuple(before), tuple(after)


def prompt_length(cell: Cell, rules: Rules, model: Model) -> int:
    """Tokens of a prompt of the cell as the model reads it."""
    reserved = rules.max_answer_tokens * rules.counts_answer
    return cell.length - reserved + sum(map(len, around(rules, model)))


def blank(cell: Cell, task: Task, model: Model) -> Record:
    """The cell's record before it has run: identity, model and surroundings; its cell_key is the cell's."""
    facts, rules = model.facts(), task.rules(cell.subset)
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
        options=asdict(cell.options),
        scorer_version={name: scorer.version for name, scorer in rules.scorers.items()},
        headline=next(iter(rules.scorers), None),
        chance=rules.chance if rules.scorers else None,
        tokenizer_key=model.tokenizer.key,
        versions={"atlas_bench": __version__, "python": platform.python_version(), **_versions()},
        hardware={"cpu": cpu(), "cores": _cores(), "gpu": facts.get("gpu")},
        command=gauges.command_line(),
        **{name: facts[name] for name in sorted(told)},
    )


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
