"""The base of tasks whose context is nothing but lines of one-token words: checks, samples and lessons.

A task says what a line looks like, where its words come from, and what can be asked after a number of lines. The last
is also what training asks on the way.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas_bench.errors import UserError
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.tasks.lines.context import Lines, Source, Template
from atlas_bench.tasks.word_task import WordTask
from atlas_bench.types import Sample, TaskOptions, Tokenizer

DRAWS = 1000  # contexts that are drawn until one has clear answers

ASKED = 8  # questions after a segment, at most


@dataclass(frozen=True)
class Asked:
    """A question about the lines read so far.

    text     follows the last line, which ends with a line break
    prefill  with which the answer is made to begin
    lines    numbers of the lines that answer it, rising
    meta     more for Sample.meta
    """

    text: str
    prefill: str
    answer: str
    lines: tuple[int, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def tokens(self, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of the question, and of the answer's beginning."""
        text, prefill = tokenizer.encode_batch([self.text, self.prefill])
        return tuple(text), tuple(prefill)


class LineTask(WordTask):
    """Implements types.Task except rules and describe.

    before  text in front of the lines
    """

    before: str
    version = "1"

    def __init__(self) -> None:
        super().__init__()
        self._question_sizes: dict[tuple[str, int, str], int] = {}

    @abstractmethod
    def line(self, length: int) -> tuple[str | None, ...]:
        """The parts of a line in a prompt of that many tokens: texts, and None for a word."""

    @abstractmethod
    def least_lines(self, subset: str) -> int:
        """The number of lines that the subset needs to have a question."""

    @abstractmethod
    def source(self, subset: str, tokenizer: Tokenizer, line: Template, lines: int, label: str) -> Any:
        """The Source of a context of that many lines; everything random in it follows from the label."""

    @abstractmethod
    def asks(self, subset: str, source: Any, lines: int, rng: random.Random) -> list[Asked]:
        """The questions after that many lines that have a clear answer.

        A context that has fewer of them at its end than rules() says is drawn again. All of a subset's questions take
        the same number of tokens.
        """

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """The text before the lines, the fewest lines possible, and a question."""
        lines, need, length = self.least_lines(subset), 1, 0
        while need > length:  # a line of a longer prompt may take more tokens
            length = need
            template = Template(tokenizer, *self.line(length))
            need = len(tokenizer.encode(self.before)) + lines * template.width
            need += self._asking(subset, length, tokenizer)
        return need, f"{lines} lines, the words before them and the question take"

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one context follow each other and share the object."""
        self.check(subset, length, tokenizer, options)
        shared = self.rules(subset).questions_per_context
        tokens = length - self._asking(subset, length, tokenizer)
        for first in range(0, n, shared):
            label = f"{self.name} {subset} {seed} {first // shared}"
            context, asks = self._clear(subset, length, tokens, label, tokenizer)
            for index, ask in enumerate(asks[: n - first], start=first):
                yield self._sample(index, context, ask, tokenizer)

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus] = ()
    ) -> LineLessons:
        """Training contexts of some subsets; no corpus is read."""
        self.words(tokenizer)
        return LineLessons(self, subsets, tokenizer, seed)

    def context(
        self, subset: str, tokens: int, label: str, tokenizer: Tokenizer, *, length: int, facts: Sequence[int] = ()
    ) -> Lines:
        """A context of `tokens` tokens, in a prompt of `length` tokens."""
        line, before = Template(tokenizer, *self.line(length)), tokenizer.encode(self.before)[:tokens]
        source: Source = self.source(subset, tokenizer, line, (tokens - len(before)) // line.width, label)
        return Lines(before, tokens, source, facts=facts, filler=tokenizer.encode("\n")[-1])

    def _asking(self, subset: str, length: int, tokenizer: Tokenizer) -> int:
        """Tokens of a question, as a few lines in the form that the length has show it; found once."""
        key = subset, length, tokenizer.key
        if key not in self._question_sizes:
            self._question_sizes[key] = self._question_size(subset, length, tokenizer)
        return self._question_sizes[key]

    def _question_size(self, subset: str, length: int, tokenizer: Tokenizer) -> int:
        line, lines = Template(tokenizer, *self.line(length)), self.least_lines(subset)
        for number in range(DRAWS):
            label = f"{self.name} {subset} probe {number}"
            source = self.source(subset, tokenizer, line, lines, label)
            if asks := self.asks(subset, source, lines, random.Random(label)):
                return sum(map(len, asks[0].tokens(tokenizer)))
        raise UserError(f"none of {DRAWS} contexts of {self.name}:{subset} has a clear answer.")

    def _clear(
        self, subset: str, length: int, tokens: int, label: str, tokenizer: Tokenizer
    ) -> tuple[Lines, list[Asked]]:
        """A context of `tokens` tokens whose questions all have clear answers, and the questions."""
        wanted = self.rules(subset).questions_per_context
        for again in range(DRAWS):
            name = f"{label}.{again}" if again else label
            context = self.context(subset, tokens, name, tokenizer, length=length)
            asks = self.asks(subset, context.source, context.lines, random.Random(f"{name} asked"))[:wanted]
            if len(asks) == wanted:
                context.numbers = tuple(sorted({number for ask in asks for number in ask.lines}))
                return context, asks
        raise UserError(f"none of {DRAWS} contexts of {self.name}:{subset} has a clear answer. Use a longer --len.")

    def _sample(self, index: int, context: Lines, ask: Asked, tokenizer: Tokenizer) -> Sample:
        question, prefill = ask.tokens(tokenizer)
        places = tuple(map(context.place, ask.lines))
        meta = {
            "question": ask.text.strip(),
            "facts": len(context.numbers),
            "needle_positions": places,
            "supporting": places,
            "plan_hash": context.digest(),
            "corpus_key": "lines 1",
            "data_key": f"words {self.words(tokenizer).key}",
        }
        return Sample(index, context, question, (ask.answer,), meta | dict(ask.meta), prefill)


class LineLessons:
    """An endless supply of lessons for some subsets, deterministic in `seed`; implements Lessons.

    purpose  a word of the labels: lessons of two purposes have nothing in common
    """

    def __init__(
        self, task: LineTask, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, *, purpose: str = "lessons"
    ) -> None:
        self.task, self.subsets, self.tokenizer, self.purpose = task, subsets, tokenizer, purpose
        self.seeded(seed)

    def seeded(self, seed: int) -> LineLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"{self.task.name} {self.purpose} {seed}")
        return self

    def examinations(self) -> list[LineLessons]:
        """Lessons that training never draws."""
        return [LineLessons(self.task, self.subsets, self.tokenizer, 0, purpose="examination")]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by up to ASKED questions about its lines."""
        rng = self.rng
        subset, label = rng.choice(self.subsets), f"{self.task.name} {self.purpose} {rng.getrandbits(128)}"
        context = self.task.context(subset, length, label, self.tokenizer, length=length)
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            asks = self.task.asks(subset, context.source, context.lines_before(stop), rng)
            asked = rng.sample(asks, min(ASKED, len(asks)))
            yield Segment(context.read(start, stop), tuple(map(self._ask, asked)))

    def _ask(self, ask: Asked) -> Ask:
        text, prefill = ask.tokens(self.tokenizer)
        return Ask((*text, *prefill), tuple(self.tokenizer.encode(f" {ask.answer}\n")))
