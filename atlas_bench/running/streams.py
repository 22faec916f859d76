"""Samples as streams of a batch: which share one, where each is forked to be asked, which tokens come next.

    streams = of(group)                       # [[sample, ..], ..]: samples that share a context, in their order
    for stop in stops(streams):               # read side by side up to each stop, there fork and ask
        for tokens in blocks(contexts, position, stop, size): ...

Nothing here knows of models or records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, TypeVar

import numpy as np

from atlas_bench.types import Context, Model, Sample

T = TypeVar("T")
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


def blocks(
    contexts: Sequence[Context], start: int, stop: int, size: int, *, ahead: int = 0, readers: int = 1
) -> Iterator[np.ndarray]:
    """Tokens [B, T <= size] of all contexts, each block with `ahead` of the next one's.

    The next block is made while the model reads this one, or the next `readers` blocks.
    """

    def read(at: int) -> np.ndarray:
        return _side_by_side(contexts, at, min(at + size, stop) + ahead)

    return _made_ahead(read, range(start, stop, size), readers)


def searched(
    contexts: Sequence[Context], start: int, stop: int, size: int, *, model: Model, readers: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Tokens [B, T <= size] of all contexts, and what model.search() finds in them.

    The next `readers` blocks are made and searched while the model replays what was found in this one.
    """

    def read(at: int) -> tuple[np.ndarray, Any]:
        before = _side_by_side(contexts, max(0, at - model.sees_before), at)
        tokens = _side_by_side(contexts, at, min(at + size, stop))
        return tokens, model.search(before, tokens)

    return _made_ahead(read, range(start, stop, size), readers)


def _side_by_side(contexts: Sequence[Context], start: int, stop: int) -> np.ndarray:
    return np.stack([context.read(start, stop) for context in contexts])


def _made_ahead(make: Callable[[int], T], places: Sequence[int], workers: int) -> Iterator[T]:
    """make() of every place, in order; so many of the next ones are made by as many threads meanwhile."""
    if not places:
        return
    coming: deque[Future[T]] = deque()
    waiting = iter(places)
    with ThreadPoolExecutor(workers) as pool:
        coming.extend(pool.submit(make, place) for place in islice(waiting, workers))
        while coming:
            made = coming.popleft().result()
            coming.extend(pool.submit(make, place) for place in islice(waiting, 1))
            yield made


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
