"""RULER's two question-answering tasks: the paragraphs that answer, among paragraphs that do not.

    Answer the question based on the given documents. Only give me the answer and do not output any other words.

    The following are given documents.

    Document 1:
    [...]

    Answer the question based on the given documents. [...]

    Question: In what country is Normandy located? Answer:                                          -> France

qa_1 is SQuAD 2.0 (dev), its answerable questions; qa_2 is HotpotQA (dev, distractor), with all ten paragraphs of a
question. They are surrounded by the other paragraphs of SQuAD's article, then any others, in random order; when all are
used they repeat. Questions are taken in the order of the file, whatever the seed; data.py reads them.

What differs from RULER: the length is exact, the last paragraph cut, which is one of the question's own only where
nothing else is there; and a question whose paragraphs do not fit is left out, where RULER tries for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.tasks.ruler import data
from atlas_bench.tasks.ruler.listing import Draft, Items
from atlas_bench.tasks.ruler.phrases import Phrases, Texts
from atlas_bench.tasks.ruler.scorers import PART
from atlas_bench.tasks.ruler.shuffle import permute, round_keys
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer

PER_SHARD = 1024  # paragraphs

_TOLD = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
BEFORE = f"{_TOLD}\n\nThe following are given documents."
QUESTION = f"\n\n{_TOLD}\n\nQuestion: {{query}}"
ANSWER = " Answer:"


class Documents:
    """The qa_1 and qa_2 subsets; implements types.Task except describe."""

    name = "ruler"
    subsets = tuple(data.SOURCES)

    def __init__(self) -> None:
        self._phrases: dict[tuple[str, str], Phrases] = {}

    def rules(self, subset: str) -> Rules:
        """RULER's metric and number of tokens to generate."""
        return Rules(PART, chance=0.0, max_answer_tokens=32, stop=(), counts_answer=True)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        least = None
        for draft in self._drafts(subset, 0, tokenizer, options):
            need = self._needs(subset, draft, tokenizer)
            if need <= length:
                return
            least = need if least is None else min(least, need)
        raise UserError(
            f"length {length} is too short for ruler:{subset}: none of its questions fits with its paragraphs and the"
            f" answer; the shortest takes {least} tokens. Use --len {least} or more."
        )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n.  UserError if there are fewer."""
        drafts = self._drafts(subset, seed, tokenizer, options)
        fitting = (draft for draft in drafts if self._needs(subset, draft, tokenizer) <= length)
        index = -1
        for index, draft in enumerate(islice(fitting, n)):
            yield draft.sample(index, length - self.rules(subset).max_answer_tokens, tokenizer)
        if index + 1 < n:
            raise UserError(
                f"n = {n} samples of ruler:{subset} are more than the {index + 1} questions that fit in {length} tokens"
                f" with their paragraphs. Use --samples {index + 1}, or a longer --len."
            )

    def _needs(self, subset: str, draft: Draft, tokenizer: Tokenizer) -> int:
        return self.rules(subset).max_answer_tokens + draft.around(tokenizer) + draft.needs

    def _drafts(self, subset: str, seed: int, tokenizer: Tokenizer, options: TaskOptions) -> Iterator[Draft]:
        """One of every question, in the order of the file."""
        read = data.load(subset, options.data, options.encoding)
        for number, asked in enumerate(read.questions):
            yield self._draft(subset, read, asked, f"ruler {subset} {seed} {number}", tokenizer)

    def _draft(self, subset: str, read: data.Data, asked: data.Asked, label: str, tokenizer: Tokenizer) -> Draft:
        labels = self._known("ruler headings", _headings, tokenizer)
        bodies = self._known(f"ruler {subset} {read.key}", lambda start, stop: read.paragraphs[start:stop], tokenizer)
        own = Items(labels, bodies, np.array(asked.paragraphs).__getitem__)
        return Draft(
            before=BEFORE,
            question=QUESTION.format(query=asked.query),
            prefill=ANSWER,
            references=asked.answers,
            answers=asked.paragraphs,
            items=lambda tokens: Items(labels, bodies, pool(asked, len(read.paragraphs), label)),
            needs=int(own.cost(0, len(asked.paragraphs)).sum()),
            seed=label,
            supporting=asked.supporting,
        )

    def _known(self, name: str, texts: Texts, tokenizer: Tokenizer) -> Phrases:
        if (name, tokenizer.key) not in self._phrases:
            self._phrases[name, tokenizer.key] = Phrases(name, tokenizer, texts, per_shard=PER_SHARD)
        return self._phrases[name, tokenizer.key]


@dataclass(frozen=True, eq=False)
class Pool:
    """The order of paragraphs: some first, then all others at random, then all again and again.

    skipped  places of the first in the random order of all, rising, each less the number of those before it
    """

    first: np.ndarray
    skipped: np.ndarray
    size: int
    keys: np.ndarray

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        others = numbers - len(self.first)
        places = np.where(numbers < self.size, others + np.searchsorted(self.skipped, others, side="right"), numbers)
        found = permute(places % self.size, self.size, self.keys)
        found[others < 0] = self.first[numbers[others < 0]]
        return found


def pool(asked: data.Asked, size: int, label: str) -> Pool:
    """The question's own paragraphs, those of its article in random order, and all of `size`."""
    keys, others = round_keys(f"{label} pool"), np.array(asked.others, dtype=np.int64)
    if len(others):
        others = others[permute(np.arange(len(others)), len(others), round_keys(f"{label} article"))]
    first = np.append(np.array(asked.paragraphs, dtype=np.int64), others)
    places = np.flatnonzero(np.isin(permute(np.arange(size), size, keys), first))
    return Pool(first, places - np.arange(len(places)), size, keys)


def _headings(start: int, stop: int) -> list[str]:
    return [f"\n\nDocument {i}:\n" for i in range(start + 1, stop + 1)]
