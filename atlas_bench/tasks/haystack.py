"""The lazy context: a plan of literal tokens and corpus spans, read in any pieces.

    spans = background(corpus, 10_000_000, rng)                  # a dozen triples
    pieces, at = intersperse(facts, spans, corpus, rng)          # facts between sentences, anywhere
    pieces, at = place(facts, [0, 0.5, 1], spans, corpus)        # or at given depths
    pieces.read(9_000_000, 9_004_096)                            # int32, O(range) memory

The rules are BABILong's: runs of whole sentences from random places of random documents, the last one cut
to fit; each fact in a slot between sentences drawn with replacement, the facts in their own order.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, floor

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.tasks import making
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.types import Tokenizer

WORD_TOKENS = 64  # in which the first word of a text ends, whatever the tokenizer


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, stop) of one document."""

    document: int
    start: int
    stop: int


class Pieces:
    """A Context of literal tokens and corpus spans in order; holds the plan, never the tokens."""

    def __init__(self, corpus: Corpus, items: Iterable[tuple[int, ...] | Span]) -> None:
        self.corpus = corpus
        self.items = list(items)
        sizes = (item.stop - item.start if isinstance(item, Span) else len(item) for item in self.items)
        self._ends = list(accumulate(sizes))
        self.length = self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        start, stop = max(start, 0), min(stop, self.length)
        out = np.empty(max(stop - start, 0), dtype=np.int32)
        at, k = start, bisect_right(self._ends, start)
        while at < stop:
            item, end = self.items[k], self._ends[k]
            upto = min(end, stop)
            if isinstance(item, Span):
                shift = item.stop - end  # from context position to document position
                out[at - start : upto - start] = self.corpus.document(item.document).tokens[at + shift : upto + shift]
            else:
                shift = len(item) - end
                out[at - start : upto - start] = item[at + shift : upto + shift]
            at, k = upto, k + 1
        return out

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        sha = hashlib.sha256(self.corpus.key.encode())
        for item in self.items:
            if isinstance(item, Span):
                sha.update(f"span {item.document} {item.start} {item.stop};".encode())
            else:
                sha.update(f"text {' '.join(map(str, item))};".encode())
        return sha.hexdigest()


def background(
    corpus: Corpus, length: int, rng: random.Random, *, first_document: int = 0, pool: int | None = None
) -> list[Span]:
    """Exactly `length` tokens of running text, each span beginning at a sentence.

    A bounded corpus gives runs from random sentences of random documents (with replacement) to their ends.
    An endless one gives a single run that repeats nothing: from a random sentence of a random document out
    of `pool` (by default as few as `length` needs) numbered from `first_document`, around that pool.
    """
    if length <= 0:
        return []
    if corpus.n_documents is None:
        return _endless_run(corpus, length, rng, first_document, pool)
    spans: list[Span] = []
    left, empty = length, 0
    while left:
        number = int(rng.random() * corpus.n_documents)
        starts = corpus.document(number).starts
        sentences = len(starts) - 1
        if not sentences:
            empty += 1
            if empty > 100 + 10 * corpus.n_documents:
                raise UserError(f"background '{corpus.name}' holds no sentence of 10 tokens or more.")
            continue
        start = int(starts[int(rng.random() * sentences)])
        stop = min(int(starts[-1]), start + left)
        spans.append(Span(number, start, stop))
        left -= stop - start
    return spans


def _endless_run(corpus: Corpus, length: int, rng: random.Random, first: int, pool: int | None) -> list[Span]:
    # Every shard has at least document_tokens tokens, so a run over one shard more than `length` fills
    # ends before it comes around to the shard where it began.
    needed = max(2, -(-length // (corpus.document_tokens or 1)) + 1)
    pool = max(needed, pool or 0)
    number = int(rng.random() * pool)
    making.make(corpus, [first + (number + i) % pool for i in range(needed)])
    starts = corpus.document(first + number).starts
    start = int(starts[int(rng.random() * (len(starts) - 1))])
    spans: list[Span] = []
    while True:
        stop = min(int(starts[-1]), start + length)
        spans.append(Span(first + number, start, stop))
        length -= stop - start
        if not length:
            return spans
        number, start = (number + 1) % pool, 0
        starts = corpus.document(first + number).starts


def intersperse(
    facts: Sequence[Sequence[int]],
    spans: Sequence[Span],
    corpus: Corpus,
    rng: random.Random,
    *,
    prefix: Sequence[int] = (),
    window: tuple[float, float] = (0.0, 1.0),
    strip: Tokenizer | None = None,
) -> tuple[Pieces, list[int]]:
    """The context with every fact between two background sentences, and each fact's token position.

    facts   token ids of each fact; their order is kept
    spans   background() of the same corpus; `prefix` goes before everything
    window  part of the background, as fractions of its tokens, in which the slots must lie
    strip   removes the blank between the prefix and the text: this tokenizer encodes the first word again. If that
            takes more or fewer tokens, the background ends earlier or later, so that the length does not change
    """
    slots = _Slots(spans, corpus)
    low, high = (0, slots.count) if window == (0.0, 1.0) else slots.within(*window)
    draws = sorted(low + int(rng.random() * (high + 1 - low)) for _ in facts)
    if strip is not None:
        word, facts, spans = _stripped(facts, spans, corpus, strip, fact_first=not spans or 0 in draws)
        slots = _Slots(spans, corpus)
        draws = [min(draw - bool(word), slots.count) for draw in draws]  # the first slot is before the word
        prefix = (*prefix, *word)
    return _weave(facts, draws, slots, prefix)


def place(
    facts: Sequence[Sequence[int]],
    depths: Sequence[float],
    spans: Sequence[Span],
    corpus: Corpus,
    *,
    prefix: Sequence[int] = (),
) -> tuple[Pieces, list[int]]:
    """The context with every fact in the gap nearest to its depth, and each fact's token position.

    depths  of each fact, rising: the share of the background's tokens before it; 0 is before all of them, 1
            after all, and between two gaps equally near it is the earlier
    """
    slots = _Slots(spans, corpus)
    if any(not 0 <= depth <= 1 for depth in depths) or list(depths) != sorted(depths):
        raise ValueError(f"depths must rise from 0 to 1: {list(depths)}")
    return _weave(facts, [slots.nearest(depth) for depth in depths], slots, prefix)


def divide(spans: Sequence[Span], corpus: Corpus, n: int) -> list[list[Span]]:
    """The spans in n runs of as many whole sentences each; fewer than n sentences leave some runs empty."""
    slots = _Slots(spans, corpus)
    cuts = [slots.place(k * slots.count // n) for k in range(n)] + [slots.place(slots.count)]
    runs = []
    for (first, start), (last, stop) in pairwise(cuts):
        run = [
            Span(span.document, start if k == first else span.start, stop if k == last else span.stop)
            for k, span in enumerate(spans[first : last + 1], start=first)
        ]
        runs.append([span for span in run if span.start < span.stop])
    return runs


def _weave(
    facts: Sequence[Sequence[int]], draws: Sequence[int], slots: _Slots, prefix: Sequence[int]
) -> tuple[Pieces, list[int]]:
    """Facts in slots of rising numbers, and each fact's position."""
    spans = slots.spans
    items: list[tuple[int, ...] | Span] = [tuple(prefix)] if prefix else []
    at = len(prefix)
    positions: list[int] = []
    k, done = 0, spans[0].start if spans else 0  # everything before token `done` of span k is placed
    for slot, fact in zip(draws, facts, strict=True):
        span, token = slots.place(slot)
        while k < span:
            if done < spans[k].stop:
                items.append(Span(spans[k].document, done, spans[k].stop))
                at += spans[k].stop - done
            k += 1
            done = spans[k].start
        if done < token:
            items.append(Span(spans[k].document, done, token))
            at += token - done
            done = token
        positions.append(at)
        items.append(tuple(fact))
        at += len(fact)
    for span in spans[k:]:
        done = done if span is spans[k] else span.start
        if done < span.stop:
            items.append(Span(span.document, done, span.stop))
    return Pieces(slots.corpus, items), positions


def _stripped(
    facts: Sequence[Sequence[int]], spans: Sequence[Span], corpus: Corpus, tokenizer: Tokenizer, *, fact_first: bool
) -> tuple[list[int], list[Sequence[int]], list[Span]]:
    """Facts and spans without the blank before the one that comes first, as long as before.

    Returns (the background's first word, where the background comes first; facts; spans after that word).
    """
    facts, spans = list(facts), list(spans)
    if fact_first:
        if facts:
            tokens, word = _first_word(facts[0], tokenizer)
            facts[0] = (*word, *facts[0][tokens:])
            spans = _shortened(spans, corpus, len(word) - tokens)
        return [], facts, spans
    first = spans[0]
    begin = corpus.document(first.document).tokens[first.start : min(first.stop, first.start + WORD_TOKENS)]
    tokens, word = _first_word(begin, tokenizer)
    if not word:  # a background of two or three tokens may be nothing but the blank
        return _stripped(facts, [], corpus, tokenizer, fact_first=True)
    word = word[: sum(span.stop - span.start for span in spans)]  # one that is a single word is cut as any other
    spans[:1] = [Span(first.document, first.start + tokens, first.stop)] if first.start + tokens < first.stop else []
    return word, facts, _shortened(spans, corpus, len(word) - tokens)


def _first_word(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[int, list[int]]:
    """(how many of the tokens hold the first word, the tokens of that word without the blanks before it)."""
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode([int(token) for token in ids[:n]])
        if text.strip() and not text.endswith("\ufffd"):  # half a character decodes to U+FFFD
            return n, tokenizer.encode(text.lstrip())
    return 0, []


def _shortened(spans: Sequence[Span], corpus: Corpus, tokens: int) -> list[Span]:
    """The spans with that many tokens fewer at their end; a negative number adds tokens, as far as the document has
    them."""
    spans = list(spans)
    while spans and (size := spans[-1].stop - spans[-1].start) <= tokens:
        tokens -= size
        spans.pop()
    if spans and tokens:
        document, start, stop = spans[-1].document, spans[-1].start, spans[-1].stop
        spans[-1] = Span(document, start, min(stop - tokens, len(corpus.document(document).tokens)))
    return spans


class _Slots:
    """The gaps before, between and after the sentences of some spans, numbered 0..count."""

    def __init__(self, spans: Sequence[Span], corpus: Corpus) -> None:
        self.spans, self.corpus = spans, corpus
        self.starts = [corpus.document(span.document).starts for span in spans]
        self.first = [int(s.searchsorted(span.start)) for s, span in zip(self.starts, spans, strict=True)]
        sentences = [
            int(s.searchsorted(span.stop)) - first
            for s, span, first in zip(self.starts, spans, self.first, strict=True)
        ]
        self.before = [0, *accumulate(sentences)]  # sentences before span k
        self.count = self.before[-1]
        self.ends = [0, *accumulate(span.stop - span.start for span in spans)]  # tokens before span k
        self.total = self.ends[-1]

    def place(self, slot: int) -> tuple[int, int]:
        """(span number, token of its document) where the slot lies."""
        if slot == self.count:
            return (len(self.spans) - 1, self.spans[-1].stop) if self.spans else (0, 0)
        k = bisect_right(self.before, slot) - 1
        return k, int(self.starts[k][self.first[k] + slot - self.before[k]])

    def tokens_before(self, slot: int) -> int:
        """Tokens of the background before the slot."""
        k, token = self.place(slot)
        return self.ends[k] + token - self.spans[k].start if self.spans else 0

    def slots_before(self, token: int) -> int:
        """Slots with fewer than `token` tokens of the background before them."""
        if token > self.total:
            return self.count + 1
        if not self.spans:
            return 0
        k = min(bisect_right(self.ends, token), len(self.spans)) - 1
        here = token - self.ends[k] + self.spans[k].start
        return self.before[k] + int(self.starts[k].searchsorted(here)) - self.first[k]

    def nearest(self, depth: float) -> int:
        """The slot nearest to a share of the background's tokens."""
        wanted = depth * self.total
        after = self.slots_before(ceil(wanted))
        near = range(max(after - 1, 0), after + 1)
        return min(near, key=lambda slot: abs(self.tokens_before(slot) - wanted))

    def within(self, low: float, high: float) -> tuple[int, int]:
        """First and last slot between two fractions of the background's tokens."""
        first = self.slots_before(ceil(low * self.total))
        last = self.slots_before(floor(high * self.total) + 1) - 1
        if not 0 <= low <= high <= 1 or last < first:
            raise UserError(
                f"no sentence ends between {low:g} and {high:g} of a background of {self.total} tokens, so no fact"
                f" can stand there. Widen the window or use a longer context."
            )
        return first, last
