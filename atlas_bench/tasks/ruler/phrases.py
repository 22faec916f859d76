"""Texts by number as token ids: each tokenised once, a shard at a time, then mapped from the cache.

    numbers = Phrases("ruler numbers", tokenizer, lambda start, stop: [f" {i + 1}." for i in range(start, stop)])
    numbers.sizes(np.array([0, 861_033]))            # tokens of " 1." and of " 861034."
    numbers.put(out, np.array([100]), np.array([0])) # the tokens of " 1." from out[100] on

Only the tokenizer knows the tokens of a number or a coined word. corpora.Corpus keeps sentences; these
are shorter than any it takes, and are asked for one by one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from atlas_bench.tasks.token_file import cache_folder, cached_file
from atlas_bench.types import Tokenizer

PER_SHARD = 16_384
OPEN_SHARDS = 256
BATCH = 256  # texts per encode_batch


Texts = Callable[[int, int], Sequence[str]]  # (start, stop) -> texts number start..stop - 1, fewer where they end


class Phrases:
    """Token ids of texts by number.

    name  says which texts they are, whatever the tokenizer: equal names mean equal texts
    key   sha256 of everything that decides the tokens
    """

    def __init__(self, name: str, tokenizer: Tokenizer, texts: Texts, *, per_shard: int = PER_SHARD) -> None:
        self.name = name
        self.key = hashlib.sha256(f"{name} {per_shard} {tokenizer.key} {tokenizer.vocab_size}".encode()).hexdigest()
        self._tokenizer, self._texts, self._per_shard = tokenizer, texts, per_shard
        self._shard = lru_cache(OPEN_SHARDS)(self._open)

    def sizes(self, which: np.ndarray) -> np.ndarray:
        """Tokens of each text, int64."""
        sizes = np.empty(len(which), dtype=np.int64)
        for here, local, starts, _ in self._by_shard(which):
            sizes[here] = starts[local + 1] - starts[local]
        return sizes

    def put(self, out: np.ndarray, places: np.ndarray, which: np.ndarray) -> None:
        """Write the tokens of each text into `out`, from its place on."""
        for here, local, starts, tokens in self._by_shard(which):
            sizes = starts[local + 1] - starts[local]
            out[_ranges(places[here], sizes)] = tokens[_ranges(starts[local], sizes)]

    def tokens(self, number: int) -> tuple[int, ...]:
        """Token ids of one text."""
        which = np.array([number])
        out = np.empty(int(self.sizes(which)[0]), dtype=np.int32)
        self.put(out, np.array([0]), which)
        return tuple(out.tolist())

    def _by_shard(self, which: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(where in `which`, numbers within the shard, where its texts start, its tokens) of every shard needed."""
        shards = which // self._per_shard
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            yield here, which[here] - shard * self._per_shard, *self._shard(shard)

    def _open(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        path = cache_folder() / "phrases" / f"{self.key[:40]}-{shard}.npy"
        if not path.exists():
            self._make(path, shard)
        raw = np.asarray(np.load(path, mmap_mode="r"))  # plain view: memmap slices are slow
        return raw[: self._per_shard + 1], raw[self._per_shard + 1 :]

    def _make(self, path: Path, shard: int) -> None:
        sizes, tokens = np.zeros(self._per_shard + 1, dtype=np.int32), array("i")
        for start in range(0, self._per_shard, BATCH):
            first = shard * self._per_shard + start
            texts = self._texts(first, first + min(BATCH, self._per_shard - start))
            for i, ids in enumerate(self._tokenizer.encode_batch(list(texts)), start=start + 1):
                tokens.extend(ids)
                sizes[i] = len(ids)
        with cached_file(path) as file:
            np.save(file, np.concatenate([np.cumsum(sizes, dtype=np.int32), np.array(tokens, dtype=np.int32)]))


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """starts[0] .. starts[0] + sizes[0] - 1, starts[1] .., one after the other."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1])


def fingerprint(texts: Texts) -> str:
    """16 hex digits of the first texts: no version number that somebody must remember to raise."""
    sha = hashlib.sha256()
    for start in range(0, PER_SHARD, BATCH):
        sha.update("\n".join(texts(start, start + BATCH)).encode())
    return sha.hexdigest()[:16]
