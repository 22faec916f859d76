"""A cell with its task and model: its rules, and its samples in the model's tokens.

    cell = Cell("babilong", "qa1", 16_000, "atlas-nano", samples=20)
    evaluation = Evaluation(cell, registry.task("babilong"), loading.load("atlas-nano"))
    next(evaluation.samples())            # the first question, on its context
    evaluation.unsupported()              # None, or why the model cannot be asked

Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice, starmap
from typing import Any

import numpy as np

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.running import streams
from atlas_bench.running.progress import title_of
from atlas_bench.running.stopping import Stop
from atlas_bench.types import Model, Rules, Sample, Task, TaskOptions

UNTRAINED = ("hf:", "openai:")  # what the name of a model of others' begins with
MADE_AGAIN = 8  # samples that are made twice, at most: a draw from few values may come out equal by chance
LOOK = 4096  # tokens of each that are compared


@dataclass(frozen=True)
class Shard:
    """Which shard of which plan has a part.

    shard, shards  number of the shard, from 1, and how many there are
    plan           hash of the plan's cells
    cell, cells    position of the cell in the plan, from 0, and how many it has
    """

    shard: int
    shards: int
    plan: str
    cell: int
    cells: int


@dataclass(frozen=True)
class Part:
    """Samples [first, stop) of a cell, with all questions on each of their contexts; `of` does not identify it."""

    first: int
    stop: int
    of: Shard | None = field(default=None, compare=False)

    def facts(self) -> Any:
        """The part as a record has it."""
        return {"first": self.first, "stop": self.stop} | (asdict(self.of) if self.of else {})


@dataclass(frozen=True)
class Cell:
    """One grid point: what is asked and which model is asked, by name; with a part, only that part is asked."""

    task: str
    subset: str
    length: int
    model: str
    seed: int = 0
    samples: int = 100
    options: TaskOptions = field(default_factory=TaskOptions)
    stop: Stop | None = None
    part: Part | None = None

    @property
    def title(self) -> str:
        return f"{self.task}:{self.subset}" if self.subset else self.task

    @property
    def asked(self) -> range:
        """Indices of the samples that are asked."""
        return range(self.part.first, self.part.stop) if self.part else range(self.samples)


def rules_of(cell: Cell, task: Task) -> Rules:
    """How the cell's questions are answered and judged."""
    if hasattr(task, "rules_for"):
        rules: Rules = task.rules_for(cell.subset, cell.options)
        return rules
    return task.rules(cell.subset)


def prompt_advice(cells: Iterable[Cell], models: Mapping[str, Model]) -> str | None:
    """What to type where BABILong's bare prompt goes to a model that was not trained on it; None where it does not."""
    bare = {cell.model for cell in cells if cell.task == "babilong" and cell.options.prompt == "bare"}
    untrained = [name for name in sorted(bare) if (models[name].spec or models[name].name).startswith(UNTRAINED)]
    if not untrained:
        return None
    return (
        f"the bare prompt of babilong does not say how to answer, and {', '.join(untrained)} may not know it: the "
        "score may be lower than what it remembers. Add --prompt official"
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A cell with the task and the model that it names: all that running it needs to know of both."""

    cell: Cell
    task: Task
    model: Model

    @property
    def title(self) -> str:
        """'babilong:qa1 10M atlas-nano', of a part 'babilong:qa1 10M atlas-nano, samples 10-19'."""
        title, asked = title_of(self.cell.title, self.cell.length, self.cell.model), self.cell.asked
        return f"{title}, samples {asked[0]}-{asked[-1]}" if self.cell.part else title

    @cached_property
    def rules(self) -> Rules:
        """How the questions are answered and judged."""
        return rules_of(self.cell, self.task)

    @cached_property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids that the model puts before a context and after a question; before a text alone: its opening."""
        if not self.rules.scorers:
            return tuple(self.model.opening), ()
        before, after = self.model.wrap
        return tuple(before), tuple(after)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt as the model reads it."""
        reserved = self.rules.max_answer_tokens * self.rules.counts_answer
        return self.cell.length - reserved + sum(map(len, self.around))

    @property
    def contexts(self) -> int:
        """Contexts that are asked about, each of which is read once."""
        return -(-len(self.cell.asked) // self.rules.questions_per_context)

    def samples(self) -> Iterator[Sample]:
        """The cell's samples, made again, from the first of all to the last that is asked.

        What the model puts around a prompt is added to the length.
        """
        cell, (before, after) = self.cell, self.around
        made = self.task.samples(cell.subset, cell.length, cell.samples, cell.seed, self.model.tokenizer, cell.options)
        made = islice(made, cell.asked.stop)
        return streams.wrapped(made, before, after) if before or after else made

    def made_otherwise(self) -> str | None:
        """What differs between two makings of the first samples; None if nothing does, and for tasks of ours.

        A user's task that draws anything but from the rng it is given would have other questions in every run.
        """
        if not registry.is_file(self.cell.task):
            return None
        made = (islice(self.samples(), MADE_AGAIN) for _ in range(2))
        return next(filter(None, starmap(_difference, zip(*made, strict=False))), None)

    def unsupported(self) -> str | None:
        """Why the model cannot be asked this cell, by its length alone; None if it can."""
        if not self.rules.scorers and not self.model.has_logprobs:
            return (
                f"{self.task.name} has no scorers and measures losses, and this model gives no probabilities of tokens"
            )
        why: object = self.model.supports(self.prompt_tokens + self.rules.max_answer_tokens)
        if why is None or isinstance(why, str):
            return why
        raise UserError(
            f"supports() of model '{self.cell.model}' returned {why!r}. It returns None for a length that can be read, "
            "and else the reason as a text."
        )


def _difference(one: Sample, other: Sample) -> str | None:
    """What differs between two makings of a sample, as far as its first tokens tell."""
    for name in ("targets", "question", "prefill", "asked_at", "length"):
        first, second = getattr(one, name), getattr(other, name)
        if first != second:
            return f"{name} {first} and {second}"
    read = min(one.context.length, LOOK)
    if not np.array_equal(one.context.read(0, read), other.context.read(0, read)):
        return f"other tokens among the first {read}"
    plans = [sample.meta.get("plan_hash") for sample in (one, other)]
    return None if plans[0] == plans[1] else f"plan_hash {plans[0]} and {plans[1]}"
