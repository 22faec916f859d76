"""How sure a score is, and whether two differ; scipy is imported on first use (it takes half a second)."""

from __future__ import annotations

from collections.abc import Sequence


def wilson(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) where n is 0.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = correct/n   (Wilson 1927)

    Raises ValueError unless 0 <= correct <= n and 0 < level < 1.
    """
    if not 0 <= correct <= n or not 0 < level < 1:
        raise ValueError(f"wilson needs 0 <= correct <= n and 0 < level < 1, not {correct}, {n}, {level}")
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(int(correct), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def discordant(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int]:
    """(only a right, only b right) over the same samples in the same order."""
    pairs = list(zip(a, b, strict=True))
    return sum(bool(x) and not y for x, y in pairs), sum(bool(y) and not x for x, y in pairs)


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


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], seed: int = 0, resamples: int = 10_000
) -> tuple[float, float, float]:
    """(difference, low, high): mean(a) - mean(b) and its 95 % percentile interval over the samples.

    a, b       scores in [0, 1] of the same samples in the same order
    resamples  draws with replacement of whole pairs (Efron 1979)

    One pair cannot be resampled into a spread: its interval is (-1, 1). Raises ValueError for unequal
    or no samples.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired_bootstrap needs the same samples twice, not {len(a)} and {len(b)}")
    import numpy as np

    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    mean = float(difference.mean())
    if len(difference) == 1:
        return mean, -1.0, 1.0
    from scipy.stats import bootstrap

    interval = bootstrap(
        (difference,), np.mean, n_resamples=resamples, batch=max(1, 1_000_000 // len(difference)),
        vectorized=True, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return mean, float(interval.low), float(interval.high)
