"""The lazy context of lists: texts in random order, numbered or not, cut at an exact number of tokens.

    listing = Listing(before, 10_000_000, Items(numbers, words, order), seed="ruler cwe 0 0", answers=(17, 4))
    listing.read(9_000_000, 9_004_096)       # " 861034. straw 861035. pi .."

An item is a label, which goes by its place, and a body. The order gives the body of items 0, 1, 2, .. without end; we
take as many as fill the tokens and shuffle them. The last alone keeps its place and is cut to fit.

Nothing is kept but the position of every thousandth item or so: the shuffled order is computed (shuffle.py), and
the tokens of labels and bodies are mapped from the cache (phrases.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atlas_bench.tasks.ruler.phrases import Phrases
from atlas_bench.tasks.ruler.shuffle import permute, round_keys
from atlas_bench.types import Sample, Tokenizer

CHUNK = 16_384  # items worked on at once while a listing is planned
GROUP, GROUPS = 1024, 4096  # items between two known positions, and about how many of these are kept

Order = Callable[[np.ndarray], np.ndarray]  # numbers of items -> numbers of their bodies, int64


@dataclass(frozen=True)
class Items:
    """Items before they are shuffled: labels by place (None: no labels), bodies by the order."""

    labels: Phrases | None
    bodies: Phrases
    order: Order

    def label_sizes(self, first: int, last: int) -> np.ndarray | int:
        """Tokens of the labels at places first..last - 1."""
        return self.labels.sizes(np.arange(first, last)) if self.labels else 0

    def cost(self, first: int, last: int) -> np.ndarray:
        """Tokens of items first..last - 1, each."""
        return self.bodies.sizes(self.order(np.arange(first, last))) + self.label_sizes(first, last)

    def fitting(self, tokens: int) -> int:
        """The smallest number of items with at least that many tokens."""
        total, first = 0, 0
        while total < tokens:
            ends = total + np.cumsum(self.cost(first, first + CHUNK))
            if ends[-1] >= tokens:
                return first + int(np.searchsorted(ends, tokens)) + 1
            total, first = int(ends[-1]), first + CHUNK
        return first


class Listing:
    """A Context: `before`, then exactly `tokens` tokens of shuffled items.

    answers  numbers of the bodies whose first occurrences are the context's facts
    """

    def __init__(self, before: Sequence[int], tokens: int, items: Items, *, seed: str, answers: Sequence[int]) -> None:
        self._before = np.array(before, dtype=np.int32)
        self._items, self._keys = items, round_keys(seed)
        self.length = len(before) + tokens
        self.count = items.fitting(tokens)
        self._group = GROUP
        while self._group * GROUPS < self.count and self._group < CHUNK:
            self._group *= 2
        self._starts, self.first = self._index(answers)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        start, stop = max(start, 0), min(stop, self.length)
        out = np.empty(max(stop - start, 0), dtype=np.int32)
        part = self._before[start : max(stop, start)]
        out[: len(part)] = part
        group = max(int(np.searchsorted(self._starts, start, side="right")) - 1, 0)
        while group < len(self._starts) and self._starts[group] < stop:
            at, tokens = int(self._starts[group]), self._tokens(group)
            low, high = max(at, start), min(at + len(tokens), stop)
            out[low - start : high - start] = tokens[low - at : high - at]
            group += 1
        return out

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(position, tokens) of the first occurrence of every answer, by position."""
        for body, position in sorted(self.first.items(), key=lambda pair: pair[1]):
            yield position, self._items.bodies.tokens(body)

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        labels = self._items.labels.key if self._items.labels else ""
        sha = hashlib.sha256(f"{labels} {self._items.bodies.key} {self.length} {self.count};".encode())
        for part in (self._before, self._keys, self._starts, self._which(0, min(self.count, CHUNK))):
            sha.update(part.astype("<u8").tobytes())
        return sha.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """The plan: phrases belong to the cache, as a corpus does."""
        return self.__dict__ | {"_items": self._items.order}

    def _which(self, first: int, last: int) -> np.ndarray:
        """Bodies of the items at places first..last - 1."""
        numbers = np.arange(first, last)
        shuffled = numbers < self.count - 1
        numbers[shuffled] = permute(numbers[shuffled], self.count - 1, self._keys)
        return self._items.order(numbers)

    def _index(self, answers: Sequence[int]) -> tuple[np.ndarray, dict[int, int]]:
        """Position of every group's first token, and of each answer's first occurrence."""
        starts, found, at = [np.empty(0, dtype=np.int64)], {}, len(self._before)
        for first in range(0, self.count, CHUNK):
            last = min(first + CHUNK, self.count)
            which = self._which(first, last)
            bodies = self._items.bodies.sizes(which)
            ends = at + np.cumsum(bodies + self._items.label_sizes(first, last))
            for answer in answers:
                if answer not in found and (places := np.flatnonzero(which == answer)).size:
                    found[answer] = int(ends[places[0]] - bodies[places[0]])
            starts.append(np.append(at, ends[:-1])[:: self._group].copy())  # a view would keep all of them
            at = int(ends[-1])
        return np.concatenate(starts), found

    def _tokens(self, group: int) -> np.ndarray:
        """All tokens of a group's items; those of the very last item whole."""
        first, last = group * self._group, min((group + 1) * self._group, self.count)
        which = self._which(first, last)
        bodies = self._items.bodies.sizes(which)
        ends = np.cumsum(bodies + self._items.label_sizes(first, last))
        out = np.empty(ends[-1], dtype=np.int32)
        self._items.bodies.put(out, ends - bodies, which)
        if self._items.labels:
            self._items.labels.put(out, np.append(0, ends[:-1]), np.arange(first, last))
        return out


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A sample before it is laid out.

    items       the items, given the tokens that they may have
    needs       tokens of those items that must be there
    references  what the answer is compared with
    answers     bodies whose first occurrences are the facts; `supporting` of them answer the question
    """

    before: str
    question: str
    prefill: str
    references: tuple[str, ...]
    answers: tuple[int, ...]
    items: Callable[[int], Items]
    needs: int
    seed: str
    supporting: tuple[int, ...] | None = None

    def around(self, tokenizer: Tokenizer) -> int:
        """Tokens of the prompt without the items."""
        return sum(map(len, tokenizer.encode_batch([self.before, self.question, self.prefill])))

    def sample(self, index: int, length: int, tokenizer: Tokenizer) -> Sample:
        """The sample whose prompt has `length` tokens."""
        before, question, prefill = tokenizer.encode_batch([self.before, self.question, self.prefill])
        tokens = length - len(before) - len(question) - len(prefill)
        items = self.items(tokens)
        context = Listing(before, tokens, items, seed=f"{self.seed} shuffle", answers=self.answers)
        supporting = self.answers if self.supporting is None else self.supporting
        meta = {
            "question": self.question.strip(),
            "references": self.references,
            "facts": len(context.first),
            "needle_positions": tuple(sorted(context.first.values())),
            "supporting": tuple(sorted(context.first[body] for body in supporting)),
            "plan_hash": context.digest(),
            "corpus_key": items.bodies.key,
            "data_key": items.bodies.name,
        }
        return Sample(
            index, context, tuple(question), (", ".join(dict.fromkeys(self.references)),), meta, tuple(prefill)
        )
