"""Intervals of scores; scipy is imported on first use, because that takes half a second."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from atlas_bench.stats import sequential


def wilson(correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) where n is 0.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = correct/n   (Wilson 1927)

    For a sum of shares in 0..1, which is no count, the interval is rather too wide: of all numbers in 0..1 with mean p
    those that are 0 or 1 vary most. Raises ValueError unless 0 <= correct <= n and 0 < level < 1.
    """
    if not 0 <= correct <= n or not 0 < level < 1:
        raise ValueError(f"wilson needs 0 <= correct <= n and 0 < level < 1, not {correct}, {n}, {level}")
    if n == 0:
        return 0.0, 1.0
    z, p = NormalDist().inv_cdf((1 + level) / 2), correct / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + side * half) / (1 + z * z / n) for side in (-1, 1))
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


class Spread(NamedTuple):
    """How scores spread over independent contexts: sums over contexts with m questions and a score of x in all.

    contexts    how many there are; 0: not known
    xx, xm, mm  the sums of x^2, x m and m^2
    means       how often each mean score x / m occurs
    anytime     whether the scores decided when to stop, so that their interval is a confidence sequence
    """

    contexts: int = 0
    xx: float = 0.0
    xm: float = 0.0
    mm: float = 0.0
    means: sequential.Counted = ()
    anytime: bool = False


def spread(scores: Iterable[tuple[Hashable, float]]) -> Spread:
    """The spread of scores in 0..1, each with its context."""
    sums: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0])
    for context, score in scores:
        sums[context][0] += score
        sums[context][1] += 1
    totals = [(x, m) for x, m in sums.values()]
    xx, xm, mm = (sum(a * b for a, b in pairs) for pairs in (
        [(x, x) for x, _ in totals], totals, [(m, m) for _, m in totals]
    ))  # fmt: skip
    return Spread(len(totals), xx, xm, mm, sequential.counted(x / m for x, m in totals))


def together(spreads: Iterable[Spread]) -> Spread:
    """The spread of several sets of contexts together, which have none in common; unknown if one spread is."""
    found = list(spreads)
    if not found or not all(each.contexts for each in found):
        return Spread()
    contexts, xx, xm, mm = (sum(part) for part in zip(*(each[:4] for each in found), strict=True))
    means: Counter[float] = Counter()
    for each in found:
        means.update(dict(each.means))
    return Spread(int(contexts), xx, xm, mm, tuple(sorted(means.items())), any(each.anytime for each in found))


def design_effect(correct: float, n: int, spread: Spread) -> float | None:
    """The variance of a score over contexts, divided by that of n independent answers.

    (K / (K - 1)) sum_i (x_i - p m_i)^2 / (n p (1 - p)),  p = correct / n,  over K contexts   (Kish 1965; the ratio
    estimator's linearised variance)

    None for one context, for p of 0 or 1, and where contexts are not known.
    """
    k, xx, xm, mm = spread[:4]
    if k < 2 or not 0 < correct < n:
        return None
    p = correct / n
    return max(0.0, k / (k - 1) * (xx - 2 * p * xm + p * p * mm) / (n * p * (1 - p)))


@lru_cache(maxsize=10_000)
def interval(correct: float, n: int, spread: Spread = Spread()) -> tuple[float, float]:  # noqa: B008 - a tuple
    """The 95 % interval of a score: Wilson's, of fewer answers where questions share contexts.

    n' = n / max(1, design effect) * (z / t)^2,  t Student's quantile of K - 1 degrees   (Korn & Graubard 1998, with
    Wilson's interval for Clopper and Pearson's)

    One context says nothing of others: (0, 1). A design effect below 1 counts as 1, because it is an estimate itself.
    Where the scores decided when to stop, the interval is sequential.interval() of the contexts' means.
    """
    if spread.anytime:
        return sequential.interval(spread.means)
    if not 0 < spread.contexts < n:
        return wilson(correct, n)
    worth = worth_of(n, spread.contexts, design_effect(correct, n, spread))
    return wilson(correct / n * worth, worth)


def worth_of(n: int, contexts: int, effect: float | None = None) -> float:
    """The number of independent answers that n answers on some contexts are worth: n' of interval()."""
    if contexts >= n:
        return float(n)
    if contexts < 2:
        return 0.0
    from scipy.special import stdtrit

    z = NormalDist().inv_cdf(0.975)
    return n / max(1.0, effect or 1.0) * (z / float(stdtrit(contexts - 1, 0.975))) ** 2
