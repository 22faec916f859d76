"""Shared by the tasks made of single words: MQAR's lazy context, its words, and the checks.

    words = vocabulary(tokenizer)
    context = lay_out(words, 10_000_000, pairs=32, key_words=1, spread=True, label="mqar 32 0 0")
    context.read(9_000_000, 9_004_096)       # int32, O(range) memory; the plan itself is O(pairs)

Everything random is bits of Philox (Salmon et al. 2011), a counter-based generator whose streams numpy keeps
from version to version: the word of noise at a place is a function of the label and the place alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.types import Tokenizer

BITS = 9
POOL = 1 << BITS  # keys, values and words of noise: as many of each with every tokenizer, so chance is the same
WORDS_PER_STEP = 16  # one step of Philox's counter gives 256 bits, a word of noise takes 16 of them


@dataclass(frozen=True)
class Pool:
    """POOL words that are one token each."""

    tokens: np.ndarray  # int32 [POOL]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Three pools without a common word, and a hash of them."""

    keys: Pool
    values: Pool
    noise: Pool
    key: str


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The tokenizer's words in three pools; the same tokenizer, the same pools.

    A word is one token of a space and at least two ASCII letters; of words that differ in case only, the
    first counts.  UserError if there are fewer than three pools of them.
    """
    found: dict[str, tuple[int, str]] = {}
    for token in range(tokenizer.vocab_size):
        text = tokenizer.decode([token])
        if len(text) > 2 and text[0] == " " and text.isascii() and text[1:].isalpha():
            found.setdefault(text[1:].lower(), (token, text[1:]))
    reached = tokenizer.encode_batch([f" {word}" for _, word in found.values()])
    known = [pair for pair, ids in zip(found.values(), reached, strict=True) if list(ids) == [pair[0]]]
    if len(known) < 3 * POOL:
        raise UserError(
            f"tokenizer {tokenizer.key} has {len(known)} words that are a single token after a space; a task made"
            f" of words needs {3 * POOL}: {POOL} keys, {POOL} values and {POOL} for noise. Use a model with a larger"
            " vocabulary."
        )
    known.sort(key=lambda pair: hashlib.sha256(f"mqar {tokenizer.key} {pair[1]}".encode()).digest())
    pools = [
        Pool(np.array([token for token, _ in part], dtype=np.int32), tuple(word for _, word in part))
        for part in (known[:POOL], known[POOL : 2 * POOL], known[2 * POOL : 3 * POOL])
    ]
    return Vocabulary(*pools, key=hashlib.sha256(repr(known[: 3 * POOL]).encode()).hexdigest()[:16])


class Pairs:
    """A Context of pairs at their places, in order, and noise everywhere else.

    keys     numbers in vocabulary.keys [P, words of a key]
    values   numbers in vocabulary.values [P]
    places   position of each pair's first token, rising [P]
    seed     of the noise, 128 bits
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        keys: np.ndarray,
        values: np.ndarray,
        places: np.ndarray,
        seed: int,
    ) -> None:
        self.vocabulary, self.length = vocabulary, length
        self.keys, self.values, self.places, self.seed = keys, values, places, seed
        self.width = keys.shape[1] + 1

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        start, stop = max(start, 0), min(stop, self.length)
        if start >= stop:
            return np.empty(0, dtype=np.int32)
        out = self._noise(start, stop)
        first = np.searchsorted(self.places, start - self.width, side="right")
        last = np.searchsorted(self.places, stop)
        at = self.places[first:last, None] + np.arange(self.width) - start
        inside = (at >= 0) & (at < len(out))
        out[at[inside]] = self.tokens(slice(first, last))[inside]
        return out

    def tokens(self, which: slice) -> np.ndarray:
        """Token ids [n, width] of some pairs: the key's, then the value's."""
        return np.column_stack(
            [self.vocabulary.keys.tokens[self.keys[which]], self.vocabulary.values.tokens[self.values[which]]]
        )

    def question(self, i: int) -> tuple[int, ...]:
        """Token ids of the i-th pair's key."""
        return tuple(self.vocabulary.keys.tokens[self.keys[i]].tolist())

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(position, tokens) of every pair."""
        for at, tokens in zip(self.places.tolist(), self.tokens(slice(None)).tolist(), strict=True):
            yield at, tuple(tokens)

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        sha = hashlib.sha256(f"{self.vocabulary.key} {self.length} {self.seed};".encode())
        for part in (self.keys, self.values, self.places):
            sha.update(part.astype("<i8").tobytes())
        return sha.hexdigest()

    def _noise(self, start: int, stop: int) -> np.ndarray:
        first, last = start // WORDS_PER_STEP, -(-stop // WORDS_PER_STEP)
        raw = np.random.Philox(key=self.seed, counter=first).random_raw(4 * (last - first))
        drawn = raw.astype("<u8").view("<u2") & (POOL - 1)
        skipped = start - first * WORDS_PER_STEP
        return self.vocabulary.noise.tokens[drawn[skipped : skipped + stop - start]]


def lay_out(vocabulary: Vocabulary, length: int, *, pairs: int, key_words: int, spread: bool, label: str) -> Pairs:
    """A context of `length` tokens; all that is random in it follows from the label.

    pairs      different keys; their values differ too where there are four times as many values as pairs
    key_words  words of a key, at least words_of_a_key(pairs)
    spread     pairs in random places all over, in order; else all in front, as zoology has them
    """
    codes = _distinct(f"{label} keys", pairs, POOL**key_words)
    keys = (codes[:, None] >> (BITS * np.arange(key_words, dtype=np.uint64))) & np.uint64(POOL - 1)
    values = _distinct(f"{label} values", pairs, POOL) if 4 * pairs <= POOL else bits(f"{label} values", pairs) % POOL
    gaps = np.zeros(pairs, dtype=np.int64)
    if spread:
        free = length - pairs * (key_words + 1)
        gaps = np.sort(bits(f"{label} places", pairs) % np.uint64(free + 1)).astype(np.int64)
    places = gaps + (key_words + 1) * np.arange(pairs)
    return Pairs(vocabulary, length, keys.astype(np.int16), values.astype(np.int16), places, seed_of(f"{label} noise"))


def words_of_a_key(pairs: int) -> int:
    """The fewest words with which there are four keys for every pair."""
    words = 1
    while POOL**words < 4 * pairs:
        words += 1
    return words


def bits(label: str, count: int) -> np.ndarray:
    """Random uint64 [count] that follow from the label."""
    return np.random.Philox(key=seed_of(label)).random_raw(count)


def _distinct(label: str, count: int, size: int) -> np.ndarray:
    """uint64 [count]: different numbers below `size`, a power of two and at least 4 * count."""
    drawn = bits(label, 4 * count + 64) & np.uint64(size - 1)  # many more of them differ than are wanted
    first = np.sort(np.unique(drawn, return_index=True)[1])
    return drawn[first[:count]]


def seed_of(label: str) -> int:
    """128 bits that follow from the label: the seed of a context's noise."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:16], "little")
