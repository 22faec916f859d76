"""Training examples for BABILong: long contexts in segments, with several questions after each segment.

A lesson is a context like an evaluation's, and harder in two ways. *Salt*: words of the background are
replaced by the story's own names, since every real book has a Mary and a garden. *Counterfeits*: facts with
one word changed, which state nothing. And after each segment everything that can be asked is asked
(`Where is Mary?`, `Where is John?`, ..), four questions for the price of one context.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from atlas_bench.tasks import babi
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.haystack import background, intersperse
from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.types import Tokenizer

TRAINING_SHARDS = 1_000_000  # generated background: shards from this number on are never evaluated
TRAINING_POOL = 16  # that many shards of about a million tokens


class BabilongLessons:
    """An endless supply of lessons for some bAbI tasks over some corpora, deterministic in `seed`.

    salt          share of background words replaced by a name of the story
    counterfeits  false facts per background token
    first_shard   of a generated corpus; evaluation uses the first ones
    """

    def __init__(
        self,
        subsets: Sequence[str],
        corpora: Sequence[Corpus],
        tokenizer: Tokenizer,
        seed: int,
        *,
        salt: float = 0.015,
        counterfeits: float = 0.002,
        first_shard: int = TRAINING_SHARDS,
    ):
        self.subsets, self.corpora, self.tokenizer = subsets, corpora, tokenizer
        self.salt, self.counterfeits, self.first_shard = salt, counterfeits, first_shard
        self.seeded(seed)
        self._ids: dict[str, tuple[int, ...]] = {}
        words = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]
        self._is_word = np.array([len(w) > 2 and w[0] == " " and w[1:].isalpha() for w in words])
        self._names = {s: [self._encode(" " + name) for name in babi.NAMES[s]] for s in subsets}
        self._one_token = {s: np.array([n[0] for n in ids if len(n) == 1]) for s, ids in self._names.items()}

    def seeded(self, seed: int) -> BabilongLessons:
        """These lessons, begun anew: what follows depends on the seed alone."""
        self.rng = random.Random(f"lessons {seed}")
        self.numpy_rng = np.random.default_rng(seed)
        return self

    def examinations(self) -> list[BabilongLessons]:
        """Lessons of each corpus without salt and counterfeits, from shards that training never reads."""
        plain = {"salt": 0, "counterfeits": 0, "first_shard": 0}
        return [
            BabilongLessons(self.subsets, [corpus], self.tokenizer, 99, **plain)
            for corpus in dict.fromkeys(self.corpora)
        ]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by what can be asked by then."""
        rng = self.rng
        subset = rng.choice(self.subsets)
        corpus = rng.choice(self.corpora)
        story = babi.simulate(subset, rng)
        facts, questions = list(story.facts), story.questions
        encoded = [self._encode(" " + fact) for fact in facts]
        # A short context holds as many facts as leave it some background.
        room, kept = int(0.8 * length), 0
        while kept < len(facts) and room >= len(encoded[kept]):
            room -= len(encoded[kept])
            kept += 1
        kept = rng.randint(min(2, kept), kept)
        facts, encoded = facts[:kept], encoded[:kept]
        first = self.first_shard if corpus.n_documents is None else 0
        spans = background(corpus, length - sum(map(len, encoded)), rng, first_document=first, pool=TRAINING_POOL)
        context, at = intersperse(encoded, spans, corpus, rng)
        ends = [a + len(e) for a, e in zip(at, encoded, strict=True)]
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            tokens = context.read(start, stop)
            self._season(tokens, subset, facts, [(a - start, e - start) for a, e in zip(at, ends, strict=True)])
            known = sum(end <= stop for end in ends)
            yield Segment(tokens, tuple(self._asks(subset, facts[:known], questions)))

    def _asks(self, subset: str, facts: list[str], questions: Sequence[babi.Question]) -> Iterator[Ask]:
        if subset == "qa1":
            places = {words[0]: words[-1].rstrip(".") for words in (fact.split() for fact in facts)}
            for person, place in places.items():
                yield self._ask(f"Where is {person}?", place)
        else:
            for question in questions:
                if question.after == len(facts):
                    yield self._ask(question.text, question.answer)

    def _ask(self, question: str, answer: str) -> Ask:
        return Ask(self._encode(f" {question}"), self._encode(f" {answer}\n"))

    def _season(self, tokens: np.ndarray, subset: str, facts: list[str], taken: list[tuple[int, int]]) -> None:
        """Puts salt and counterfeits into the background of a segment, in place."""
        rng = self.numpy_rng
        free = np.ones(len(tokens), bool)
        for start, stop in taken:
            free[max(start, 0) : max(stop, 0)] = False
        words = np.flatnonzero(self._is_word[tokens] & free)
        if len(words) == 0:
            return
        salted = words[rng.random(len(words)) < self.salt * len(tokens) / len(words)]
        spare = tokens[words]
        tokens[salted] = rng.choice(self._one_token[subset], len(salted))
        for _ in range(rng.poisson(self.counterfeits * len(tokens))):
            false = list(self._encode(" " + facts[int(rng.integers(len(facts)))])) if facts else []
            slots = [i for i, token in enumerate(false) if self._is_word[token]]
            if not slots:
                return
            false[slots[int(rng.integers(len(slots)))]] = int(spare[int(rng.integers(len(spare)))])
            start = int(rng.integers(max(1, len(tokens) - len(false))))
            if free[start : start + len(false)].all() and start + len(false) <= len(tokens):
                tokens[start : start + len(false)] = false
                free[start : start + len(false)] = False

    def _encode(self, text: str) -> tuple[int, ...]:
        ids = self._ids.get(text)
        if ids is None:
            ids = self._ids[text] = tuple(self.tokenizer.encode(text))
        return ids
