"""How a model reads the streams of an evaluation: from the beginning, block by block, and on a fork to a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from atlas_bench.running import losses, streams
from atlas_bench.running.checkpoint import Point
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.types import Model, Sample

ROUNDING = 0.01  # nats above 0 that a log-probability may have
Sums = list[list[list[float]]]  # losses so far, [streams, ranges, 3]: Point.sums


def begin(evaluation: Evaluation, count: int) -> Any:
    """A state of `count` streams that have read what the model puts before a text."""
    model, (before, _) = evaluation.model, evaluation.around
    state = model.start(count)
    return model.feed(state, np.tile(np.array(before, np.int32), (count, 1))) if before else state


def feed(
    evaluation: Evaluation, state: Any, sums: Sums | None, tokens: np.ndarray, position: int, block: int,
    found: Any = None,
) -> tuple[Any, Sums | None]:  # fmt: skip
    """(state, sums of losses) after the tokens [B, T] from `position` on.

    sums   None if no loss is measured; else the last token is only predicted, and not read
    block  tokens of a stream fed at once
    found  what the model's search() found in them, if anything

    Raises FloatingPointError, naming the token, where the state is not finite, and ValueError for log-probabilities
    that are none.
    """
    model = evaluation.model
    if sums is None:
        new = model.feed(state, tokens) if found is None else model.replay(state, found)
    else:
        new, nats, greedy = model.logprobs(state, tokens)
        check_logprobs(tokens, nats, greedy)
        first = position + 1 - len(evaluation.around[0])  # of the text: what stands before it is not measured
        nats, greedy = nats[:, max(0, -first) :], greedy[:, max(0, -first) :]
        sums = losses.add(np.array(sums), evaluation.cell.length, max(first, 0), nats, greedy).tolist()
    if (finite := model.finite(new)) is None:
        raise TypeError("finite() returned NoneType, not a bool")
    if finite:
        return new, sums
    bad = position + _first_not_finite(model, state, tokens)
    raise FloatingPointError(
        f"the state is not finite after token {bad:,} (block {position // block + 1}); "
        "the memory diverged, and an answer from it would mean nothing"
    )


def check_logprobs(tokens: np.ndarray, nats: Any, greedy: Any) -> None:
    """Raise ValueError where a model's logprobs() of tokens [B, T + 1] gave no log-probabilities [B, T]."""
    wanted = (tokens.shape[0], tokens.shape[1] - 1)
    for name, array in (("nats", nats), ("greedy", greedy)):
        if np.shape(array) != wanted:
            raise ValueError(
                f"logprobs() returned {name} of shape {np.shape(array)} for tokens of shape {tokens.shape}; it returns "
                f"one for each token but the first, {wanted}"
            )
    if (wrong := ~(np.isfinite(nats) & (nats <= ROUNDING))).any():
        raise ValueError(
            f"logprobs() returned {float(nats[wrong][0]):g} for the token at {int(np.argwhere(wrong)[0][1]) + 1} of a "
            "block; a log-probability is a finite number, 0 or less"
        )
    if np.asarray(greedy).dtype != bool:
        raise ValueError(f"logprobs() returned greedy as {np.asarray(greedy).dtype}, not as bool")


def _first_not_finite(model: Model, state: Any, tokens: np.ndarray) -> int:
    """The number of tokens after which the state is not finite any more; it is after the last one."""
    good, bad = 0, int(tokens.shape[1])
    while bad - good > 1:
        middle = (good + bad) // 2
        still = model.finite(model.feed(state, tokens[:, :middle]))
        good, bad = (middle, bad) if still else (good, middle)
    return bad


def forks(
    evaluation: Evaluation, point: Point, reading: Sequence[Sequence[Sample]], stop: int, following: int, block: int
) -> Iterator[tuple[Sample, int, Any]]:
    """(sample, its stream's first index, state after its last tokens) of unanswered samples.

    reading          the point's streams, each the samples on one context
    stop, following  only samples that read that far, and less than the next stop
    block            tokens fed at once
    """
    answered = {row["index"] for row in point.rows}
    for i, stream in enumerate(reading):
        state, position = None, point.position
        for sample in sorted(stream, key=lambda sample: sample.reads):
            if not stop <= sample.reads < following or sample.index in answered:
                continue
            state = evaluation.model.row(point.state, i) if state is None else state
            for tokens in streams.blocks([sample.context], position, sample.reads, block):
                state, _ = feed(evaluation, state, point.sums, tokens, position, block)
                position += tokens.shape[1]
            yield sample, stream[0].index, state
