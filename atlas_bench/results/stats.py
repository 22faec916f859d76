"""How sure a score is, and whether two differ; scipy is imported on first use (it takes half a second)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from atlas_bench.results import sequential


def wilson(correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) where n is 0.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = correct/n   (Wilson 1927)

    A sum of shares in 0..1 is no count; for its mean the interval is too wide rather than too narrow, since of all
    such numbers with mean p those that are 0 or 1 vary most. Raises ValueError unless 0 <= correct <= n and
    0 < level < 1.
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
    """How scores lie over independent contexts: sums over the contexts, where m questions on one score x together.

    contexts  how many there are; 0 where nobody knows
    xx, xm, mm  the sums of x^2, x m and m^2
    means     how often each mean score x / m occurs
    anytime   whether the scores decided when to stop: their interval is then a confidence sequence
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
    """The spread of contexts of several sets that have none in common; unknown where that of one is."""
    found = list(spreads)
    if not found or not all(each.contexts for each in found):
        return Spread()
    contexts, xx, xm, mm = (sum(part) for part in zip(*(each[:4] for each in found), strict=True))
    means: Counter[float] = Counter()
    for each in found:
        means.update(dict(each.means))
    return Spread(int(contexts), xx, xm, mm, tuple(sorted(means.items())), any(each.anytime for each in found))


def design_effect(correct: float, n: int, spread: Spread) -> float | None:
    """How many times the variance of n independent answers the score's variance over contexts is.

    (K / (K - 1)) sum_i (x_i - p m_i)^2 / (n p (1 - p)),  p = correct / n,  over K contexts   (Kish 1965; the ratio
    estimator's linearised variance)

    None for one context, where none differ in what they could tell (p is 0 or 1), or where contexts are not known.
    """
    k, xx, xm, mm = spread[:4]
    if k < 2 or not 0 < correct < n:
        return None
    p = correct / n
    return max(0.0, k / (k - 1) * (xx - 2 * p * xm + p * p * mm) / (n * p * (1 - p)))


@lru_cache(maxsize=10_000)
def interval(correct: float, n: int, spread: Spread = Spread()) -> tuple[float, float]:  # noqa: B008 - a tuple
    """The 95 % interval of a score: Wilson's, and where questions share contexts Wilson's of as many as they are worth.

    n' = n / max(1, design effect) * (z / t)^2,  t Student's quantile of K - 1 degrees   (Korn & Graubard 1998, with
    Wilson's interval for Clopper and Pearson's)

    One context says nothing of others: (0, 1). A design effect below 1 buys nothing, for it is an estimate itself.
    Where the scores decided when to stop, it is sequential.interval() of the contexts' means.
    """
    if spread.anytime:
        return sequential.interval(spread.means)
    if not 0 < spread.contexts < n:
        return wilson(correct, n)
    worth = worth_of(n, spread.contexts, design_effect(correct, n, spread))
    return wilson(correct / n * worth, worth)


def worth_of(n: int, contexts: int, effect: float | None = None) -> float:
    """How many independent answers n answers on some contexts are worth: see interval()."""
    if contexts >= n:
        return float(n)
    if contexts < 2:
        return 0.0
    from scipy.special import stdtrit

    z = NormalDist().inv_cdf(0.975)
    return n / max(1.0, effect or 1.0) * (z / float(stdtrit(contexts - 1, 0.975))) ** 2


def discordant(a: Sequence[float], b: Sequence[float]) -> tuple[int, int]:
    """(a better, b better) over the same samples in the same order; of verdicts: only a right, only b right."""
    pairs = list(zip(a, b, strict=True))
    return sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p of McNemar's test on the discordant counts; 1 where there are none.

    2 P[Binomial(b + c, 1/2) <= min(b, c)], at most 1   (McNemar 1947, exact form)
    """
    if b < 0 or c < 0:
        raise ValueError(f"mcnemar_exact needs counts from 0 up, not {b} and {c}")
    if b + c == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(int(b), int(b + c), 0.5).pvalue)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided exact p of the paired randomisation test; 1 where all differences are 0.

    differences  one per independent unit: the sum of its questions' scores by a minus that by b; where they have no
                 common denominator up to 1000, in thousandths

    P[|sum s_i d_i| >= |sum d_i|] over all signs s_i = +-1 (Fisher 1935), by convolution. With one question per
    unit it is McNemar's exact test; with several it is still exact where that test's independence fails.
    """
    import numpy as np

    shares = [Fraction(d).limit_denominator(1000) for d in differences if d]
    scale = min(math.lcm(*(share.denominator for share in shares)), 1000)
    whole = [round(share * scale) for share in shares]
    sizes = [abs(d) for d in whole if d]
    total, reach = abs(sum(whole)), sum(sizes)
    chances = np.zeros(2 * reach + 1)  # of every sum, reach standing for 0
    chances[reach] = 1.0
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    return float(min(1.0, chances[: reach - total + 1].sum() + chances[reach + total :].sum())) if total else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for all of them being looked at, in their order.

    max over the j smaller or equal ones of (m - j) p_(j), j = 0 .., at most 1   (Holm 1979)
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """(low, high, p): the 95 % interval of the mean that trainings with other seeds would have, and p against 0.

    values  one for each training seed, two or more: a mean score, or a mean paired difference

    mean -+ t s / sqrt(S), t Student's quantile of S - 1 degrees   (Student 1908)

    Of a mixed model with a random effect of the seed, on as many questions for each seed, this is the exact test. Where
    all values are equal p is 0, or 1 if they are 0.
    """
    from scipy.special import stdtr, stdtrit

    n, mean = len(values), fmean(values)
    error = stdev(values) / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.975)) * error
    if not error:
        return mean, mean, float(not mean)
    return mean - half, mean + half, 2 * float(stdtr(n - 1, -abs(mean) / error))


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    seed: int = 0,
    resamples: int = 10_000,
    *,
    clusters: Sequence[int] | None = None,
) -> tuple[float, float, float]:
    """(difference, low, high): mean(a) - mean(b) and its 95 % percentile interval over the samples.

    a, b       scores in [0, 1] of the same samples in the same order
    resamples  draws with replacement of whole pairs (Efron 1979)
    clusters   each sample's independent unit: whole units are drawn, with all the samples of each

    One unit cannot be resampled into a spread: its interval is (-1, 1). Raises ValueError for unequal
    or no samples.
    """
    if len(a) != len(b) or not len(a) or (clusters is not None and len(clusters) != len(a)):
        raise ValueError(f"paired_bootstrap needs the same samples twice, not {len(a)} and {len(b)}")
    import numpy as np

    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    mean = float(difference.mean())
    _, unit = np.unique(np.arange(len(a)) if clusters is None else clusters, return_inverse=True)
    sums, sizes = np.bincount(unit, difference), np.bincount(unit)
    if len(sums) == 1:
        return mean, -1.0, 1.0
    from scipy.stats import bootstrap

    interval = bootstrap(
        (sums, sizes), lambda x, n, axis=-1: x.sum(axis) / n.sum(axis), n_resamples=resamples, paired=True,
        batch=max(1, 1_000_000 // len(sums)), vectorized=True, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return mean, float(interval.low), float(interval.high)
