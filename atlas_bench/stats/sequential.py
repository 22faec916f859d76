"""Intervals and tests that stay valid however often one looks at the scores, and whenever one stops asking.

    found = counted([1, 1, 0, 1])               # scores, one for each independent context
    low, high = interval(found)                 # 95 % confidence sequence of their mean
    e = evidence(counted([1, 0, 1, -1]))        # e-value against a mean difference of 0; p = min(1, 1 / e)

Scores x lie in 0..1. If their mean is m, each of the bets

    x t / m + (1 - x) (1 - t) / (1 - m),        0 < t < 1

pays 1 on average. The capital of a bettor who spreads 1 over many t and reinvests is therefore a martingale: the chance
that it ever reaches 1 / alpha is at most alpha (Ville 1939). The means m whose capital is below that are a confidence
sequence (Howard et al. 2021, arXiv:1810.08240; by betting: Waudby-Smith & Ramdas 2024, arXiv:2010.09686). The bets t
are spread as in Cover's universal portfolio (1991). For right and wrong answers this is the beta-binomial mixture
(Robbins 1970), for paired answers a sequential form of McNemar's test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

BETS = 512  # values of t; the martingale is exact for any number of them
STEPS = 40  # halvings of an interval that holds a bound: to 1e-12

Counted = tuple[tuple[float, int], ...]  # (value, how often), in order of value


def counted(values: Iterable[float]) -> Counted:
    """How often each value occurs; the capital does not depend on the order of the values."""
    return tuple(sorted(Counter(map(float, values)).items()))


def log_capital(values: Sequence[float], counts: Any, mean: float) -> Any:
    """The log of the capital after betting against `mean`, vectorised over counts.

    values  scores that occur, in 0..1, [U]
    counts  how often each occurred, [.., U]
    mean    the hypothesis, strictly between 0 and 1

    Returns [..]: log sum_t prod_x (x t / mean + (1 - x) (1 - t) / (1 - mean))^count / BETS.
    """
    import numpy as np

    x = np.asarray(values, float)[:, None]
    t = (1 - np.cos((np.arange(BETS) + 0.5) * (np.pi / BETS))) / 2  # arcsine quantiles: Beta(1/2, 1/2)
    logs = np.asarray(counts, float) @ np.log(x * t / mean + (1 - x) * (1 - t) / (1 - mean))
    top = logs.max(-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logs - top).mean(-1))


@lru_cache(maxsize=10_000)
def interval(found: Counted, level: float = 0.95) -> tuple[float, float]:
    """The confidence sequence of the mean of scores in 0..1 after these scores; (0, 1) without a score.

    P[the mean is ever outside] <= 1 - level. The capital is log-convex in the mean and at most 1 at the scores' own
    mean, so bisection finds each bound.
    """
    if not found:
        return 0.0, 1.0
    values, counts = zip(*found, strict=True)
    centre = sum(value * count for value, count in found) / sum(counts)
    most = -math.log1p(-level)

    def bound(inside: float, outside: float) -> float:
        if inside == outside:
            return outside
        for _ in range(STEPS):
            middle = (inside + outside) / 2
            if log_capital(values, counts, middle) < most:
                inside = middle
            else:
                outside = middle
        return outside

    return bound(centre, 0.0), bound(centre, 1.0)


def evidence(differences: Counted) -> float:
    """The e-value against a mean difference of 0, of which 1 / e is a p-value at every look; 1 is no evidence.

    differences  in -1..1, one for each independent context
    """
    if not differences:
        return 1.0
    values, counts = zip(*differences, strict=True)
    return math.exp(min(700.0, log_capital([(1 + value) / 2 for value in values], counts, 0.5)))


def difference_interval(differences: Counted, level: float = 0.95) -> tuple[float, float]:
    """The confidence sequence of the mean of differences in -1..1; it excludes 0 if evidence() > 1 / (1 - level)."""
    low, high = interval(tuple(((1 + value) / 2, count) for value, count in differences), level)
    return 2 * low - 1, 2 * high - 1
