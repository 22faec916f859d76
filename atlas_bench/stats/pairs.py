"""Tests and intervals of paired scores; scipy is imported on first use, because that takes half a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean, stdev


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
