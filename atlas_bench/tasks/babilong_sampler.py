"""BABILong's samples: a case, which is facts and a question, hidden in background and cut into tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from atlas_bench.tasks import corpora, prompts
from atlas_bench.tasks.haystack import background, intersperse
from atlas_bench.tasks.scorers import LABELS
from atlas_bench.tasks.texts import Encoder
from atlas_bench.types import Sample, TaskOptions


@dataclass(frozen=True)
class Case:
    """One question with the facts before it; earlier questions are dropped, as in BABILong."""

    facts: tuple[str, ...]
    question: str
    answer: str
    supporting: tuple[int, ...]  # numbers of facts


@dataclass(frozen=True)
class Sampler:
    """Hides cases in background; has what the samples of a cell share."""

    subset: str
    length: int
    encode: Encoder
    prompt: prompts.Prompt
    options: TaskOptions
    corpora: corpora.CorpusCache

    @cached_property
    def corpus(self) -> corpora.Corpus:
        """The background."""
        return self.corpora.open(self.options, self.encode.tokenizer)

    @cached_property
    def before(self) -> tuple[int, ...]:
        return self.encode(self.prompt.before)

    def holds(self, case: Case) -> bool:
        """Whether the case fits."""
        return not self.length or self.needs(case) <= self.length

    def needs(self, case: Case) -> int:
        """The most tokens of everything except the background: the first word might have no blank before it."""
        first = next(iter(case.facts), "")
        longer = len(self.encode(self.prompt.separator + first)) - len(self.encode(f" {first}"))
        return self._hidden(case) + max(0, longer)

    def _hidden(self, case: Case) -> int:
        after = self.encode(self.prompt.after(case.question))
        return len(self.before) + len(after) + sum(len(self.encode(f" {fact}")) for fact in case.facts)

    def sample(self, index: int, case: Case, rng: random.Random, data_key: str) -> Sample:
        """The case hidden in background that fills the cell's length; no background if the length is 0."""
        facts = [self.encode(f" {fact}") for fact in case.facts]
        spans = background(self.corpus, max(0, self.length - self._hidden(case)), rng)
        strip = None if self.prompt.separator else self.encode.tokenizer
        context, positions = intersperse(facts, spans, self.corpus, rng, prefix=self.before, strip=strip)
        return Sample(
            index,
            context,
            self.encode(self.prompt.after(case.question)),
            (case.answer,),
            {
                "question": case.question,
                "labels": LABELS[self.subset],
                "facts": len(facts),
                "needle_positions": tuple(positions),
                "supporting": tuple(positions[i] for i in case.supporting),
                "plan_hash": context.digest(),
                "corpus_key": self.corpus.key,
                "data_key": data_key,
                "prompt_hash": self.prompt.hash,
            },
        )
