"""The lazy context of tasks that are nothing but lines: each line is made from its number, when it is read.

    line = Template(tokenizer, None, ":", None, "\\n")           # None: a word of one token
    context = Lines(before, 10_000_000, source, facts=(3, 17), filler=newline)
    context.read(9_000_000, 9_004_096)                           # int32, O(range) memory

All lines of a context have the same number of tokens, so that a place in it is arithmetic. The random bits of a line
come from Philox (Salmon et al. 2011), one step of its counter per line: no line depends on another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from atlas_bench.types import Tokenizer

CHUNK = 16_384  # lines that are looked through at once
NUMBERS = 4  # random uint64 of a line: one step of Philox's counter


class Template:
    """A line of fixed texts and, where a part is None, of words that are one token each."""

    def __init__(self, tokenizer: Tokenizer, *parts: str | None) -> None:
        tokens: list[int] = []
        self.slots = []
        for part in parts:
            if part is None:
                self.slots.append(len(tokens))
            tokens += [0] if part is None else tokenizer.encode(part)
        self.row = np.array(tokens, dtype=np.int32)
        self.width = len(tokens)

    def fill(self, words: np.ndarray) -> np.ndarray:
        """Token ids [n, width] of lines with these words, token ids [n, slots]."""
        lines = np.repeat(self.row[None], len(words), axis=0)
        lines[:, self.slots] = words
        return lines


class Source(Protocol):
    """Says what stands in each line.

    line  the template
    key   differs where any line does
    """

    @property
    def line(self) -> Template: ...

    @property
    def key(self) -> str: ...

    def words(self, first: int, last: int) -> np.ndarray:
        """Token ids [last - first, slots] of the words of lines first..last - 1."""
        ...


class Lines:
    """A Context: `before`, as many whole lines as fit, and filler for the few tokens that no line fits into.

    facts   numbers of the lines that answer the questions, rising
    filler  token id
    """

    def __init__(
        self, before: Sequence[int], length: int, source: Source, *, facts: Sequence[int], filler: int
    ) -> None:
        self.before = np.array(before, dtype=np.int32)
        self.source, self.length, self.filler = source, length, filler
        self.lines = (length - len(before)) // source.line.width
        self.numbers = tuple(facts)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        start, stop = max(start, 0), min(stop, self.length)
        out = np.full(max(stop - start, 0), self.filler, dtype=np.int32)
        head = self.before[start : max(stop, start)]
        out[: len(head)] = head
        width, begin = self.source.line.width, len(self.before)
        first = max(start - begin, 0) // width
        last = min(-(-max(stop - begin, 0) // width), self.lines)
        if first < last:
            tokens = self.source.line.fill(self.source.words(first, last)).ravel()
            at = begin + first * width  # of the first of these tokens
            low, high = max(at, start), min(at + len(tokens), stop)
            out[low - start : high - start] = tokens[low - at : high - at]
        return out

    def place(self, line: int) -> int:
        """Position of a line's first token."""
        return len(self.before) + line * self.source.line.width

    def lines_before(self, stop: int) -> int:
        """Lines that end before token `stop`."""
        return min(max(stop - len(self.before), 0) // self.source.line.width, self.lines)

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(position, tokens) of every line that answers a question."""
        for number in self.numbers:
            (line,) = self.source.line.fill(self.source.words(number, number + 1)).tolist()
            yield self.place(number), tuple(line)

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        plan = (self.before.tolist(), self.length, self.filler, self.source.line.row.tolist(), self.source.key)
        return hashlib.sha256(repr(plan).encode()).hexdigest()


def drawn(seed: int, first: int, last: int) -> np.ndarray:
    """Random uint64 [last - first, NUMBERS] of lines first..last - 1."""
    raw = np.random.Philox(key=seed, counter=first).random_raw(NUMBERS * (last - first))
    return raw.reshape(-1, NUMBERS)


def chunks(lines: int) -> Iterator[tuple[int, int]]:
    """(first, last) of parts of range(lines) that are looked through at once."""
    for first in range(0, lines, CHUNK):
        yield first, min(first + CHUNK, lines)
