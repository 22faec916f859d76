"""Training contexts of lines: after each segment some of what can be asked about the lines read by then.

A lesson is made like the subset that it is drawn for, under labels of its own, so that none is an evaluation's context.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.types import Tokenizer

if TYPE_CHECKING:
    from atlas_bench.tasks.lines.task import Asked, LineTask

ASKED = 8  # questions after a segment, at most


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
        """These lessons, begun anew: what follows depends on the seed alone."""
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
