"""The lazy contexts of the MAD suite: what each token is, and what can be asked.

    context = Recall(words, 10_000_000, "a label", noise=0.2)
    context.read(9_000_000, 9_004_096)               # int32, O(range) memory
    asked = context.ask(3)                           # the fourth key stated, the value it has, and where it was stated

Contexts are made in blocks of BLOCK tokens, and a block is a function of the label and its number alone. A block
that its pairs do not fill begins with blanks, as MAD's examples do.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations

import numpy as np

from atlas_bench.tasks.pairs import POOL, Vocabulary, bits

BLOCK = 4096
COPIED = 16  # tokens to copy
PLACE_WORDS = 3  # words that name a place in a context, most significant first


@dataclass(frozen=True)
class Asked:
    """A question, its answer and where what answers it is stated; token ids and positions."""

    question: tuple[int, ...]
    answer: tuple[int, ...]
    places: tuple[int, ...]


class Blocks:
    """Base: a Context made block by block, and numbered questions on it.

    label  decides all that is random in it
    rule   what else decides its tokens, as text
    """

    rule = ""

    def __init__(self, words: Vocabulary, length: int, label: str) -> None:
        self.words, self.length, self.label = words, length, label
        self.blank, self.mark = words.noise.tokens[:2].tolist()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        start, stop = max(start, 0), min(stop, self.length)
        out = np.empty(max(stop - start, 0), dtype=np.int32)
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            first = number * BLOCK
            tokens = self.block(number, min(BLOCK, self.length - first))
            begin, end = max(start, first), min(stop, first + len(tokens))
            out[begin - start : end - start] = tokens[begin - first : end - first]
        return out

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        plan = f"{type(self).__name__} {self.words.key} {self.length} {self.label};{self.rule}"
        return hashlib.sha256(plan.encode()).hexdigest()

    def choose(self, rng: random.Random, most: int, stop: int) -> list[Asked]:
        """Different questions, `most` of them or all that can be asked when `stop` tokens have been read."""
        known = self.known(stop)
        numbers: dict[int, None] = {}
        while len(numbers) < min(most, known):
            numbers[int(rng.random() * known)] = None
        return [self.ask(number) for number in numbers]

    def block(self, number: int, size: int) -> np.ndarray:
        """All tokens of a block, int32 [size]."""
        raise NotImplementedError

    def known(self, stop: int) -> int:
        """How many questions can be asked when `stop` tokens have been read."""
        raise NotImplementedError

    def ask(self, number: int) -> Asked:
        """The question of that number, from 0."""
        raise NotImplementedError

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(position, tokens) of everything that answers a question, once."""
        raise NotImplementedError


class Recall(Blocks):
    """Pairs of a key and the value it has in this context, drawn again and again; a share of them are noise instead.

    symbols      how many words there are for keys, and for values
    key_sizes    words of a key: every size is equally likely, and so is every key of that size without a word twice
    value_sizes  words of a value, likewise; each key has one of them
    noise        share of the pairs that are replaced by as many of 16 words of noise
    """

    def __init__(
        self,
        words: Vocabulary,
        length: int,
        label: str,
        *,
        symbols: tuple[int, int] = (8, 8),
        key_sizes: tuple[int, ...] = (1,),
        value_sizes: tuple[int, ...] = (1,),
        noise: float = 0.0,
    ) -> None:
        super().__init__(words, length, label)
        self.noise, self.rule = noise, f"{symbols} {key_sizes} {value_sizes} {noise}"
        self.keys, self._groups = motifs(symbols[0], key_sizes)
        values, groups = motifs(symbols[1], value_sizes)
        drawn = bits(f"{label} values", 2 * len(self.keys)).reshape(-1, 2)
        self.values = [values[i] for i in _pick(drawn, groups)]
        width = max(key_sizes) + max(value_sizes)
        rows = [self._tokens(i) for i in range(len(self.keys))]
        self._sizes = np.array([len(row) for row in rows])
        self._rows = np.array([row + (-1,) * (width - len(row)) for row in rows], dtype=np.int32)

    def block(self, number: int, size: int) -> np.ndarray:
        """As many pairs as fit, after blanks."""
        _, _, rows = self._pairs(number, size)
        tokens = rows[rows >= 0]
        out = np.full(size, self.blank, dtype=np.int32)
        out[size - len(tokens) :] = tokens
        return out

    def known(self, stop: int) -> int:
        """Keys stated, excluding noise."""
        return sum(place + int(self._sizes[key]) <= stop for key, place in self._stated.items())

    def ask(self, number: int) -> Asked:
        """A key, asked for its value."""
        key, place = list(self._stated.items())[number]
        tokens, size = self._tokens(key), len(self.keys[key])
        return Asked(tokens[:size], tokens[size:], (place,))

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The first statement of every key."""
        for key, place in self._stated.items():
            yield place, self._tokens(key)

    @cached_property
    def _stated(self) -> dict[int, int]:
        """Key -> its first place, in order; blocks are read until all keys are found."""
        found: dict[int, int] = {}
        for number in range(-(-self.length // BLOCK)):
            size = min(BLOCK, self.length - number * BLOCK)
            keys, noisy, rows = self._pairs(number, size)
            ends = number * BLOCK + size - (rows >= 0).sum() + np.cumsum(self._sizes[keys])
            for i in np.flatnonzero(~noisy).tolist():
                found.setdefault(int(keys[i]), int(ends[i] - self._sizes[keys[i]]))
            if len(found) == len(self.keys):
                break
        return found

    def _pairs(self, number: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs in a block: keys [n], whether they are noise [n], and tokens [n, width], -1 after their end."""
        most, width = size // int(self._sizes.min()), self._rows.shape[1]
        drawn = bits(f"{self.label} {number}", most * (3 + width)).reshape(most, 3 + width)
        keys = _pick(drawn, self._groups)
        count = int(np.searchsorted(np.cumsum(self._sizes[keys]), size, side="right"))
        keys, drawn = keys[:count], drawn[:count]
        noisy = drawn[:, 2] < np.uint64(self.noise * 2**64)
        if number == 0:
            noisy[:1] = False  # at least one pair states something
        rows = self._rows[keys]
        other = self.words.noise.tokens[2 + (drawn[:, 3:] % np.uint64(16)).astype(np.int64)]
        return keys, noisy, np.where(noisy[:, None] & (rows >= 0), other, rows)

    def _tokens(self, key: int) -> tuple[int, ...]:
        """A key and its value."""
        numbers = np.array(self.keys[key]), np.array(self.values[key])
        return (*self.words.keys.tokens[numbers[0]].tolist(), *self.words.values.tokens[numbers[1]].tolist())


class Copying(Blocks):
    """COPIED of 14 words in random places among blanks, to be repeated in order.

    As in MAD each blank precedes a random one of the words, and none follows the last.
    """

    def __init__(self, words: Vocabulary, length: int, label: str) -> None:
        super().__init__(words, length, label)
        count = min(COPIED, length)
        before = np.zeros(COPIED, dtype=np.int64)
        for number, first in enumerate(range(0, length - count, 1 << 16)):
            size = min(1 << 16, length - count - first)
            drawn = bits(f"{label} blanks {number}", -(-size // 8)).astype("<u8").view(np.uint8)[:size]
            before += np.bincount(drawn % COPIED, minlength=COPIED)
        self.places = np.cumsum(before)[:count] + np.arange(count)
        self.tokens = words.values.tokens[(bits(f"{label} words", count) % np.uint64(14)).astype(np.int64)]

    def block(self, number: int, size: int) -> np.ndarray:
        """Blanks, and the words in their places."""
        out = np.full(size, self.blank, dtype=np.int32)
        at = self.places - number * BLOCK
        inside = (at >= 0) & (at < size)
        out[at[inside]] = self.tokens[inside]
        return out

    def choose(self, rng: random.Random, most: int, stop: int) -> list[Asked]:
        """One question: all words so far."""
        known = self.known(stop)
        return [self.ask(known - 1)] if known else []

    def known(self, stop: int) -> int:
        """Words shown."""
        return int(np.searchsorted(self.places, stop))

    def ask(self, number: int) -> Asked:
        """The mark, asked for the words up to that number."""
        return Asked((self.mark,), tuple(self.tokens[: number + 1].tolist()), tuple(self.places[: number + 1].tolist()))

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Every word to copy."""
        for place, token in zip(self.places.tolist(), self.tokens.tolist(), strict=True):
            yield place, (token,)


class Compression(Blocks):
    """Any of 15 words in every place, asked for by the place's number in PLACE_WORDS words."""

    def block(self, number: int, size: int) -> np.ndarray:
        """Random words."""
        return self.words.values.tokens[(bits(f"{self.label} {number}", size) % np.uint64(15)).astype(np.int64)]

    def known(self, stop: int) -> int:
        """Every place that has a name."""
        return min(stop, self.length, POOL**PLACE_WORDS)

    def ask(self, number: int) -> Asked:
        """The word in the place of that number."""
        digits = np.array([number // POOL**i % POOL for i in reversed(range(PLACE_WORDS))])
        question = tuple(self.words.keys.tokens[digits].tolist())
        return Asked(question, tuple(self.read(number, number + 1).tolist()), (number,))

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Every word."""
        for start in range(0, self.length, BLOCK):
            for i, token in enumerate(self.read(start, start + BLOCK).tolist(), start=start):
                yield i, (token,)


class Memorization(Blocks):
    """Any of 127 keys, each followed by the mark that stands where its value is asked for; no value is shown.

    A key has the same value in every context, which can only be learnt from the lessons.
    """

    def block(self, number: int, size: int) -> np.ndarray:
        """Keys and marks, after a blank where the size is odd."""
        out = np.full(size, self.mark, dtype=np.int32)
        out[: size % 2] = self.blank
        drawn = bits(f"{self.label} {number}", size // 2) % np.uint64(127)
        out[size % 2 :: 2] = self.words.keys.tokens[drawn.astype(np.int64)]
        return out

    def known(self, stop: int) -> int:
        """Every key."""
        return 127

    def ask(self, number: int) -> Asked:
        """A key and the mark."""
        value = bits("mad memorization", 128).argsort(kind="stable")[number]
        return Asked((int(self.words.keys.tokens[number]), self.mark), (int(self.words.values.tokens[value]),), ())

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Nothing that is stated here answers anything."""
        return iter(())


@lru_cache
def motifs(symbols: int, sizes: tuple[int, ...]) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Sequences of different symbols, of each size in turn; and (first, how many) of each size, uint64 [sizes, 2]."""
    found: list[tuple[int, ...]] = []
    groups = []
    for size in sizes:
        of_size = list(permutations(range(symbols), size))
        groups.append((len(found), len(of_size)))
        found += of_size
    return found, np.array(groups, dtype=np.uint64)


def _pick(drawn: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Numbers of motifs [n], by two random uint64 each [n, 2..]: the size evenly, then a motif of it."""
    first, many = groups[(drawn[:, 0] % np.uint64(len(groups))).astype(np.int64)].T
    return (first + drawn[:, 1] % many).astype(np.int64)
