"""Text to tokens: short texts remembered, long ones in parts, and a context that is given whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from atlas_bench.types import Tokenizer

_GAP = re.compile(r"(?<=\S) (?=\S)")


class Encoder:
    """Token ids of a text, cached: facts are made of a few hundred sentences."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> tuple[int, ...]:
        ids = self._known.get(text)
        if ids is None:
            ids = self._known[text] = tuple(self.tokenizer.encode(text))
        return ids


class Tokens:
    """A Context that is given whole."""

    def __init__(self, parts: Sequence[Sequence[int]]) -> None:
        self._ids = np.concatenate([np.array(part, dtype=np.int32) for part in parts])
        self.length = len(self._ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        return self._ids[max(start, 0) : max(stop, 0)].copy()

    def digest(self) -> str:
        """sha256 of the tokens."""
        return hashlib.sha256(self._ids.tobytes()).hexdigest()


def parts(text: str, size: int = 1 << 16) -> Iterator[str]:
    """The text in parts that begin at a single space: one encode() of 10M tokens would take gigabytes.

    A tokenizer that splits at spaces gives the parts the tokens of the whole, which a cut in a run of blanks would not.
    """
    start = 0
    while start < len(text):
        gap = _GAP.search(text, start + size)
        stop = gap.start() if gap else len(text)
        yield text[start:stop]
        start = stop
