"""What a task offers for training: long contexts in segments, with questions after each segment or answers along it.

A task that can teach has a method `lessons(subsets, tokenizer, seed, corpora)`. What it returns is Lessons, and has
a method `examinations()`: lessons that training never draws, to examine a trained model by.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Ask:
    """A question that follows a segment, and its answer; token ids.

    kind  of difficulty, for figures and for drawing by need; an auxiliary kind decides nothing
    """

    question: tuple[int, ...]
    answer: tuple[int, ...]
    kind: str = ""
    auxiliary: bool = False


@dataclass(frozen=True)
class Tags:
    """Answers along a segment: what the model is to say at each token, in place of the token that follows.

    tokens  int [T], the answer at each token of the segment; -1 where there is none
    scored  bool [T], answers that count for accuracy; the others only teach
    kind    as an Ask's
    """

    tokens: np.ndarray
    scored: np.ndarray
    kind: str = ""


@dataclass(frozen=True)
class Segment:
    """Tokens of a context, the questions after them, and the target at each of them.

    free  bool, tokens that cost nothing when they are written, since they state something; None: none is known to
    """

    tokens: np.ndarray  # int32
    asks: tuple[Ask, ...]
    free: np.ndarray | None = None
    tags: Tags | None = None


class Lessons(Protocol):
    """An endless supply of training contexts, deterministic in a seed."""

    def seeded(self, seed: int) -> Lessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        ...

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by the questions that can be asked by then."""
        ...


def weigh(lessons: Lessons, accuracy: Mapping[str, float]) -> None:
    """Report how well each kind is answered; lessons with `weigh` then draw more of the weak kinds."""
    if hasattr(lessons, "weigh"):
        lessons.weigh(accuracy)


def reach(lessons: Lessons, tokens: int) -> None:
    """Say how many tokens were read before this round; lessons that have `reach` go on from there in a stream."""
    if hasattr(lessons, "reach"):
        lessons.reach(tokens)


class Mixture:
    """Lessons of several kinds: each context is of one of them, all equally likely; implements Lessons."""

    def __init__(self, kinds: Sequence[Lessons], seed: int) -> None:
        self.kinds = kinds
        self.seeded(seed)

    def seeded(self, seed: int) -> Mixture:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"mixture {seed}")
        for kind in self.kinds:
            kind.seeded(seed)
        return self

    def weigh(self, accuracy: Mapping[str, float]) -> None:
        """Passed on to each of the kinds."""
        for kind in self.kinds:
            weigh(kind, accuracy)

    def reach(self, tokens: int) -> None:
        """Passed on to each of the kinds."""
        for kind in self.kinds:
            reach(kind, tokens)

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of one of the kinds."""
        yield from self.rng.choice(self.kinds).stream(length, segment)
