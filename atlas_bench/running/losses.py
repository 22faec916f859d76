"""The loss on a stream by position: sums over ranges that double, for each stream of a batch.

    [1, 64)  [64, 128)  [128, 256)  ...        the loss of token t, given all tokens before it; token 0 has none

A model that goes on using what it read long ago keeps improving to the right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

FIRST = 64  # tokens of the first range


def edges(length: int) -> list[int]:
    """Where the ranges end: 64, 128, 256, ... and the stream's end."""
    ends = [FIRST]
    while ends[-1] < length:
        ends.append(2 * ends[-1])
    return [*ends[:-1], length]


def empty(streams: int, length: int) -> np.ndarray:
    """Sums [B, ranges, 3]: tokens, nats, tokens that were the likeliest."""
    return np.zeros((streams, len(edges(length)), 3))


def add(sums: np.ndarray, length: int, first: int, nats: np.ndarray, greedy: np.ndarray) -> np.ndarray:
    """New sums with the log-probabilities of tokens first, first + 1, ..; nats and greedy are [B, T]."""
    ranges = np.searchsorted(edges(length), first + np.arange(nats.shape[1]), side="right")
    out = sums.copy()
    for i in np.unique(ranges):
        here = ranges == i
        out[:, i] += np.stack(
            [np.full(len(nats), here.sum()), -nats[:, here].sum(1, dtype=np.float64), greedy[:, here].sum(1)], axis=1
        )
    return out


def of_row(sums: np.ndarray) -> list[list[float]]:
    """One stream's sums [ranges, 3] for its record: [tokens, nats, likeliest], the counts whole."""
    return [[int(tokens), round(float(nats), 4), int(greedy)] for tokens, nats, greedy in sums]


def curve(rows: Iterable[Mapping[str, Any]], length: int) -> list[dict[str, Any]]:
    """Mean loss of each range over the streams, with an interval between streams where there are two or more.

    from, to   the range of positions [from, to)
    n          tokens predicted in it; streams: how many
    nats       mean loss in nats/token;  low, high: its 95 % interval (Student's t over the streams)
    accuracy   share of tokens that were the likeliest
    """
    streams = [row["losses"] for row in rows if row.get("losses")]
    if not streams:
        return []
    ranges, start = [], 1
    for stop, parts in zip(edges(length), zip(*streams, strict=True), strict=True):
        tokens = sum(part[0] for part in parts)
        if tokens:
            mean = sum(part[1] for part in parts) / tokens
            low, high = interval([part[1] / part[0] for part in parts if part[0]])
            accuracy = sum(part[2] for part in parts) / tokens
            ranges.append(
                {"from": start, "to": stop, "n": tokens, "streams": len(parts), "nats": round(mean, 5),
                 "low": low, "high": high, "accuracy": round(accuracy, 5)}
            )  # fmt: skip
        start = stop
    return ranges


def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean loss and next-token accuracy over all tokens."""
    parts = [part for row in rows for part in row.get("losses", ())]
    tokens = sum(part[0] for part in parts)
    if not tokens:
        return {}
    nats = sum(part[1] for part in parts) / tokens
    return {"nats_per_token": round(nats, 5), "next_token_accuracy": round(sum(p[2] for p in parts) / tokens, 5)}


def interval(means: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the mean over streams (Student's t), (None, None) for one stream."""
    if len(means) < 2:
        return None, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(means) - 1)) * float(np.std(means, ddof=1)) / math.sqrt(len(means))
    mean = float(np.mean(means))
    return round(mean - half, 5), round(mean + half, 5)
