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


def sign_flip(differences: Sequence[int]) -> float:
    """Two-sided exact p of the paired randomisation test; 1 where all differences are 0.

    differences  whole numbers, one per independent unit: questions that only a has right minus those only b has

    P[|sum s_i d_i| >= |sum d_i|] over all signs s_i = +-1 (Fisher 1935), by convolution. With one question per
    unit it is McNemar's exact test; with several it is still exact where that test's independence fails.
    """
    import numpy as np

    sizes = [abs(int(d)) for d in differences if d]
    total, reach = abs(sum(int(d) for d in differences)), sum(sizes)
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
