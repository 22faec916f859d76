"""Aggregation: lines of a user and a label fill the whole context, and the questions are about all of them.

    stone: cloud
    river: window
    stone: cloud            [.. 10M tokens of such lines ..]
    Which label is the most common? Answer:                                                    -> cloud

The protocol's shape is that of Oolong-synth (Bertsch et al. 2025, arXiv 2511.02817): every line counts, and the
questions are about the distribution: the most and the least common label, which of two is more common, how often
one stands, the most common label of one user. A needle can be found and kept; here nothing but the whole stream has
the answer, and a memory that keeps sums is at home. What differs from Oolong:

labels    Written in the line. Oolong's lines are texts that the model has to classify first, from data sets of
          others; here counting alone is measured.
words     Six labels and eight users, words of one token each, the same in every context; no dates.
counting  From 1 to 16 lines have the label that is asked for, all equally likely at every length, so that no
          length gives the answer away. Oolong asks for counts of any size.
score     Exact. Oolong gives numbers partial credit, 0.75 to the power of the distance; of 1 to 16, who always says
          9 would have 39 %.
length    Exact, in whole lines.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from atlas_bench.tasks.codewords import pick
from atlas_bench.tasks.lines.context import Template, chunks, drawn
from atlas_bench.tasks.lines.task import Asked, LineTask
from atlas_bench.tasks.pairs import Vocabulary, seed_of
from atlas_bench.tasks.scorers import only
from atlas_bench.types import Rules, Scorer, Tokenizer

LABELS, USERS = 6, 8
SHARES = (6, 5, 4, 3, 2, 1)  # of the labels, from the most common on
MOST_COUNTED = 16
NUMBERS = tuple(str(n) for n in range(1, MOST_COUNTED + 1))


@dataclass(frozen=True)
class Votes:
    """The Source: each line a random user, and a card from the user's deck for the label.

    decks    numbers of labels [USERS, cards]
    counted  numbers of the lines that have label `label` instead, rising
    """

    vocabulary: Vocabulary
    line: Template
    decks: np.ndarray
    counted: np.ndarray
    label: int
    seed: int

    @property
    def key(self) -> str:
        """A hash of the vocabulary and of everything random."""
        return f"{self.vocabulary.key} {self.seed} {self.decks.tolist()} {self.counted.tolist()} {self.label}"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The words."""
        return self.vocabulary.values.words[:LABELS]

    @cached_property
    def users(self) -> tuple[str, ...]:
        """The words."""
        return self.vocabulary.keys.words[:USERS]

    def votes(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the user and of the label of lines first..last - 1."""
        bits = drawn(self.seed, first, last)
        users, cards = (bits[:, i] % np.uint64(size) for i, size in enumerate(self.decks.shape))
        labels = self.decks[users, cards]
        low, high = np.searchsorted(self.counted, (first, last))
        labels[self.counted[low:high] - first] = self.label
        return users.astype(np.int64), labels

    def words(self, first: int, last: int) -> np.ndarray:
        """Token ids [last - first, 2]."""
        users, labels = self.votes(first, last)
        return np.column_stack([self.vocabulary.keys.tokens[users], self.vocabulary.values.tokens[labels]])

    def counts(self, lines: int) -> np.ndarray:
        """How many of the first lines have each user and label, int64 [USERS, LABELS]."""
        totals = np.zeros(USERS * LABELS, dtype=np.int64)
        for first, last in chunks(lines):
            users, labels = self.votes(first, last)
            totals += np.bincount(users * LABELS + labels, minlength=len(totals))
        return totals.reshape(USERS, LABELS)

    def first(self, label: int, user: int | None = None) -> int:
        """The first line that has the label, and the user where one is given; there must be one."""
        start, stop = 0, 256
        while True:
            users, labels = self.votes(start, stop)
            if (hits := np.flatnonzero((labels == label) & ((user is None) | (users == user)))).size:
                return start + int(hits[0])
            start, stop = stop, 2 * stop


class Aggregate(LineTask):
    """The task; implements types.Task."""

    name = "aggregate"
    subsets = ("most", "least", "more", "count", "user")
    before = "Each line is a user and a label that the user gave.\n"

    def rules(self, subset: str) -> Rules:
        """The answer is a label, of all or of two, or a number."""
        choices = {"more": 2, "count": MOST_COUNTED}.get(subset, LABELS)
        shared = USERS if subset == "user" else 1
        return Rules({"aggregate/only": Scorer(only)}, 1 / choices, max_answer_tokens=20, questions_per_context=shared)

    def line(self, length: int) -> tuple[str | None, ...]:
        """A user and a label."""
        return (None, ":", None, "\n")

    def least_lines(self, subset: str) -> int:
        """Enough for a label that is more common than the others, of all lines or of each user's."""
        return 20 * USERS if subset == "user" else 5 * LABELS

    def source(self, subset: str, tokenizer: Tokenizer, line: Template, lines: int, label: str) -> Votes:
        """Decks of falling shares, in "user" each user's own; in "count" the label asked for stands in a few lines."""
        rng, words, places = random.Random(label), self.words(tokenizer), set[int]()
        order = pick(rng, range(LABELS), LABELS)
        if subset == "count":
            wanted = min(1 + int(rng.random() * MOST_COUNTED), lines)
            while len(places) < wanted:
                places.add(int(rng.random() * lines))
            decks = [order[1:]] * USERS
        else:
            orders = [pick(rng, range(LABELS), LABELS) for _ in range(USERS)] if subset == "user" else [order] * USERS
            decks = [np.repeat(each, SHARES).tolist() for each in orders]
        counted = np.array(sorted(places), dtype=np.int64)
        return Votes(words, line, np.array(decks), counted, order[0], seed_of(label))

    def asks(self, subset: str, source: Votes, lines: int, rng: random.Random) -> list[Asked]:
        """The subset's question, or that of each user, where no two labels are equally common."""
        if subset == "count":
            standing = source.counted[: np.searchsorted(source.counted, lines)].tolist()
            text = f"How many lines have the label {source.labels[source.label]}?"
            return [_asked(text, str(len(standing)), standing, NUMBERS)]
        asks = []
        for text, scores, user in self._wanted(subset, source, source.counts(lines), rng):
            best = int(scores.argmax())
            if (scores == scores[best]).sum() == 1:
                asks.append(_asked(text, source.labels[best], [source.first(best, user)], source.labels))
        return asks

    def _wanted(
        self, subset: str, source: Votes, counts: np.ndarray, rng: random.Random
    ) -> list[tuple[str, np.ndarray, int | None]]:
        """(question, a score of each label of which the highest is right, user) of each question."""
        totals = counts.sum(axis=0)
        if subset == "user":
            texts = (f"Which label did {user} give most often?" for user in source.users)
            return [(text, counts[user], user) for user, text in enumerate(texts)]
        if subset == "more":
            one, two = pick(rng, range(LABELS), 2)
            text = f"Which label is more common, {source.labels[one]} or {source.labels[two]}?"
            return [(text, np.where(np.isin(range(LABELS), (one, two)), totals, -1), None)]
        if subset == "least" and totals.all():
            return [("Which label is the least common?", -totals, None)]
        return [("Which label is the most common?", totals, None)] if subset == "most" else []

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(labels=LABELS, users=USERS, most=MOST_COUNTED)


def _asked(text: str, answer: str, lines: Sequence[int], labels: Sequence[str]) -> Asked:
    return Asked(f"\n{text}", " Answer:", answer, tuple(lines), {"labels": labels})


DESCRIPTION = """\
Aggregation over the whole context: every line is a user and a label, and the questions are about all lines (the form
of Oolong-synth, Bertsch et al. 2025).

subsets   most   the most common label
          least  the least common label
          more   which of two labels is more common
          count  how many lines have a label: 1 to {most}
          user   each user's most common label; {users} questions on one context
source    {labels} labels and {users} users, single tokens of the model's own tokenizer, the same in every context
scorers   aggregate/only (version 1)  the answer's first sentence names the label or number, and no other
chance    1/{labels} (any one label, always); more 1/2; count 1/{most}
pitfalls  Oolong's lines are texts that the model must classify; these have their label written. No number of it
          compares with one of these.
          The shares of the labels are as 6:5:4:3:2:1, so the most common has 29 % of the lines and the next 24 %:
          a sample of some hundred lines is nearly enough for "most". Nothing but all lines is enough for "count".
          In "count" all other labels are equally common.

stone: cloud [newline] river: window [newline] [...] Which label is the most common? Answer: -> cloud"""


AGGREGATE = Aggregate()
