"""Training examples for BABILong: long contexts in segments, with several questions after each segment.

A lesson is a context like an evaluation's, and harder in two ways. *Salt*: words of the background are
replaced by the story's own names, since every real book has a Mary and a garden. *Counterfeits*: facts of any of
the tasks with one word changed, which state nothing. And after each segment everything that the story answers by then
can be asked (babi/asking.py): a sample of each kind, and of the auxiliary kinds that the hard ones build on.

Stories are drawn by need: questions that are answered badly can come more often.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from atlas_bench.tasks import babi
from atlas_bench.tasks.babi.asking import KINDS, Query, queries
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.haystack import background, intersperse
from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.types import Tokenizer

TRAINING_SHARDS = 1_000_000  # generated background: shards from this number on are never evaluated
TRAINING_POOL = 16  # that many shards of about a million tokens
ASKED, AUXILIARY = 4, 2  # questions of a kind after a segment, at most
NEED = 0.08  # weight of a kind of question that is always answered right; one that never is has 1 more
ATTEMPTS = 8  # stories drawn, at most, until one can be asked a question of the wanted kind
FALSE_STORIES = 20  # of each task, whose facts are counterfeited


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
        rng = random.Random("counterfeits")
        stories = [babi.simulate(subset, rng) for subset in subsets for _ in range(FALSE_STORIES)]
        self._counterfeited = [[self._encode(" " + fact) for fact in story.facts] for story in stories]
        self._of_facts = np.unique([i for story in self._counterfeited for fact in story for i in fact])

    def seeded(self, seed: int) -> BabilongLessons:
        """A fresh copy of these lessons: what follows depends only on the seed and on later calls of weigh()."""
        self.rng = random.Random(f"lessons {seed}")
        self.weights = dict.fromkeys(((s, kind) for s in self.subsets for kind in KINDS.get(s, (s,))), 1.0)
        self.numpy_rng = np.random.default_rng(seed)
        return self

    def weigh(self, accuracy: Mapping[str, float]) -> None:
        """Draw stories by need from now on, for each kind of question by NEED + 1 - its accuracy, if known."""
        self.weights = {(s, kind): NEED + 1 - accuracy.get(kind, 0.5) for s, kind in self.weights}

    def examinations(self) -> list[BabilongLessons]:
        """Lessons of each corpus without salt and counterfeits, from shards that training never reads."""
        plain = {"salt": 0, "counterfeits": 0, "first_shard": 0}
        return [
            BabilongLessons(self.subsets, [corpus], self.tokenizer, 99, **plain)
            for corpus in dict.fromkeys(self.corpora)
        ]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by the questions that can be asked by then."""
        rng = self.rng
        subset, kind = rng.choices(list(self.weights), list(self.weights.values()))[0]
        corpus = rng.choice(self.corpora)
        facts, questions = self._story(subset, kind, length)
        encoded = [self._encode(" " + fact) for fact in facts]
        first = self.first_shard if corpus.n_documents is None else 0
        spans = background(corpus, length - sum(map(len, encoded)), rng, first_document=first, pool=TRAINING_POOL)
        context, at = intersperse(encoded, spans, corpus, rng)
        ends = [a + len(e) for a, e in zip(at, encoded, strict=True)]
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            tokens = context.read(start, stop)
            told = np.zeros(len(tokens), bool)
            for first, end in zip(at, ends, strict=True):
                told[max(first - start, 0) : max(end - start, 0)] = True
            self._season(tokens, subset, ~told)
            known = sum(end <= stop for end in ends)
            yield Segment(tokens, tuple(self._asks(subset, facts[:known], questions)), told)

    def _story(self, subset: str, kind: str, length: int) -> tuple[list[str], Sequence[babi.Question]]:
        """The first facts of a story, as many as leave a context of `length` some background, and its questions.

        A story is drawn again, ATTEMPTS times at most, where no question of the kind can be asked.
        """
        for _ in range(ATTEMPTS):
            story = babi.simulate(subset, self.rng)
            room, fitting = int(0.8 * length), 0
            for fact in story.facts:
                room -= len(self._encode(" " + fact))
                if room < 0:
                    break
                fitting += 1
            kept = self.rng.randint(min(2, fitting), fitting)
            facts = list(story.facts[:kept])
            if any(query.kind == kind for query in self._queries(subset, facts, story.questions)):
                break
        return facts, story.questions

    def _queries(self, subset: str, facts: list[str], questions: Sequence[babi.Question]) -> list[Query]:
        """All that can be asked after these facts; of a task that is not read by asking.py, what the story asks."""
        told = [Query(subset, q.text, q.answer) for q in questions if q.after == len(facts)]
        return queries(subset, facts) or told

    def _asks(self, subset: str, facts: list[str], questions: Sequence[babi.Question]) -> Iterator[Ask]:
        kinds = defaultdict(list)
        for query in self._queries(subset, facts, questions):
            kinds[query.kind].append(query)
        for kind, asked in kinds.items():
            auxiliary = kind not in KINDS.get(subset, kind)
            for query in self.rng.sample(asked, min(len(asked), AUXILIARY if auxiliary else ASKED)):
                yield Ask(self._encode(f" {query.text}"), self._encode(f" {query.answer}\n"), kind, auxiliary)

    def _season(self, tokens: np.ndarray, subset: str, free: np.ndarray) -> None:
        """Puts salt and counterfeits into free places of a segment's background, in place."""
        rng = self.numpy_rng
        words = np.flatnonzero(self._is_word[tokens] & free)
        if len(words) == 0:
            return
        salted = words[rng.random(len(words)) < self.salt * len(tokens) / len(words)]
        spare = np.setdiff1d(tokens[words], self._of_facts)
        tokens[salted] = rng.choice(self._one_token[subset], len(salted))
        for _ in range(rng.poisson(self.counterfeits * len(tokens))):
            story = self._counterfeited[int(rng.integers(len(self._counterfeited)))]
            false = list(story[int(rng.integers(len(story)))])
            slots = [i for i, token in enumerate(false) if self._is_word[token]]
            if not slots or not len(spare):
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
