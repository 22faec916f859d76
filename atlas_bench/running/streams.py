"""Samples as streams of a batch: which share one, where each is forked to be asked, which tokens come next.

    streams = of(group)                       # [[sample, ..], ..]: samples that share a context, in their order
    for stop in stops(streams):               # read side by side up to each stop, there fork and ask
        for tokens in blocks(contexts, position, stop, size): ...

Nothing here knows of models or records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from atlas_bench.types import Context, Sample

NEAR = 256  # questions within that many tokens are asked from one fork, which reads the rest alone


@dataclass(frozen=True)
class Wrapped:
    """A Context after the tokens that a model's prompts begin with."""

    before: tuple[int, ...]
    inner: Context

    @property
    def length(self) -> int:
        return len(self.before) + self.inner.length

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32."""
        n = len(self.before)
        inner = self.inner.read(max(start - n, 0), max(stop - n, 0))
        return np.concatenate([np.array(self.before[max(start, 0) : max(stop, 0)], dtype=np.int32), inner])


def wrapped(samples: Iterable[Sample], before: Sequence[int], after: Sequence[int]) -> Iterator[Sample]:
    """The samples with a model's own tokens before the context and after the question; see types.Model.wrap."""
    shared: Wrapped | None = None
    for sample in samples:
        if shared is None or shared.inner is not sample.context:
            shared = Wrapped(tuple(before), sample.context)
        moved = {
            name: tuple(position + len(before) for position in sample.meta[name])
            for name in ("needle_positions", "supporting")
            if name in sample.meta
        }
        yield replace(
            sample,
            context=shared,
            question=(*sample.question, *after),
            meta={**sample.meta, **moved},
            asked_at=None if sample.asked_at is None else sample.asked_at + len(before),
        )


def of(group: Sequence[Sample]) -> list[list[Sample]]:
    """Samples in a row that share their context, together: by identity, which is safe while the group holds them."""
    return [list(sharing) for _, sharing in groupby(group, key=lambda sample: id(sample.context))]


def stops(streams: Sequence[Sequence[Sample]]) -> list[int]:
    """Rising positions at which streams read side by side are forked: the last is where the first of them ends.

    A question is asked from the last stop before it; a question fewer than NEAR tokens after a stop does not add one.
    """
    common = min(max(sample.reads for sample in stream) for stream in streams)
    positions: list[int] = []
    for reads in sorted({min(sample.reads, common) for stream in streams for sample in stream}):
        if not positions or reads >= positions[-1] + NEAR:
            positions.append(reads)
    return positions


def blocks(contexts: Sequence[Context], start: int, stop: int, size: int, *, ahead: int = 0) -> Iterator[np.ndarray]:
    """Tokens [B, T <= size] of all contexts, each block with `ahead` of the next one's.

    The next block is made while the model reads this one: generated background is tokenised on demand.
    """

    def read(at: int) -> np.ndarray:
        return np.stack([context.read(at, min(at + size, stop) + ahead) for context in contexts])

    if start >= stop:
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, start)
        for at in range(start, stop, size):
            tokens = coming.result()
            if at + size < stop:
                coming = pool.submit(read, at + size)
            yield tokens


def to_read_in_all(first: Sequence[Sample], count: int, size: Callable[[Sequence[Sample]], int] | None = None) -> int:
    """Tokens that `count` samples take, estimated from the first context; size() counts those of one context."""
    size = size or to_read
    whole, rest = divmod(count, max(1, len(first)))
    return whole * size(first) + size(first[:rest])


def to_read(sharing: Sequence[Sample]) -> int:
    """Tokens that the questions of one context take: the context as far as any question reads it, once, and each
    question."""
    asked = sum(sample.length - sample.reads for sample in sharing)
    return asked + max((sample.reads for sample in sharing), default=0)
