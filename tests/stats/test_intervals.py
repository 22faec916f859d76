"""Each statistic against scipy, against its definition written out again, and against its meaning."""

from __future__ import annotations

from itertools import product
from math import comb, isclose, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_bench.stats.intervals import Spread, design_effect, interval, spread, together, wilson, worth_of
from atlas_bench.stats.pairs import discordant, holm, mcnemar_exact, over_seeds, paired_bootstrap, sign_flip

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0.5, 0.999))
def test_wilson_is_its_formula(count, level):
    (k, n), z = count, NormalDist().inv_cdf((1 + level) / 2)
    p = k / n
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = wilson(k, n, level)
    assert isclose(low, max(0, (p + z * z / (2 * n) - half) / (1 + z * z / n)), abs_tol=1e-9)
    assert isclose(high, min(1, (p + z * z / (2 * n) + half) / (1 + z * z / n)), abs_tol=1e-9)
    assert 0 <= low <= p + 1e-12 and p - 1e-12 <= high <= 1


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0.5, 0.999))
def test_wilson_is_scipys(count, level):
    from scipy.stats import binomtest

    expected = binomtest(*count).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(*count, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(counts)
def test_wilson_is_symmetric_and_narrows(count):
    k, n = count
    low, high = wilson(k, n)
    mirrored = wilson(n - k, n)
    assert isclose(low, 1 - mirrored[1], abs_tol=1e-9) and isclose(high, 1 - mirrored[0], abs_tol=1e-9)
    more = wilson(10 * k, 10 * n)
    assert more[1] - more[0] < high - low


def test_wilson_known_values():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(np.int64(10), np.int64(10))[1] == 1.0
    for wrong in ((-1, 5), (6, 5), (0, -1)):
        with pytest.raises(ValueError, match="wilson needs"):
            wilson(*wrong)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_binomial_tail(b, c):
    tail = sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert isclose(mcnemar_exact(b, c), min(1.0, 2 * tail), rel_tol=1e-9)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2000))
@example(0, 0)
@example(1, 0)
@example(7, 7)
def test_mcnemar_is_statsmodels(b, c):
    """mcnemar(table, exact=True) of statsmodels: twice the lower tail of the binomial, at most 1."""
    from scipy.stats import binom

    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)), rel=1e-9)


def test_mcnemar_known_values():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)
    with pytest.raises(ValueError, match="counts"):
        mcnemar_exact(-1, 2)


def test_discordant_counts_each_side():
    assert discordant([True, True, False, False], [True, False, True, False]) == (1, 1)
    assert discordant([1, 1], [0, 0]) == (2, 0)
    with pytest.raises(ValueError):
        discordant([True], [])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60), st.integers(0, 2**32))
def test_bootstrap_contains_its_mean_and_turns_with_its_arguments(pairs, seed):
    a, b = zip(*pairs, strict=True)
    difference, low, high = paired_bootstrap(a, b, seed, 500)
    assert difference == pytest.approx(sum(a) / len(a) - sum(b) / len(b))
    assert -1 <= low <= high <= 1
    assert paired_bootstrap(a, b, seed, 500) == (difference, low, high)
    assert paired_bootstrap(b, a, seed, 500) == pytest.approx((-difference, -high, -low))


def assert_percentiles(interval, values, weights, slack):
    """Both ends are the 2.5 and 97.5 percentiles of a distribution, up to `slack` in probability."""
    for end, share in zip(interval, (0.025, 0.975), strict=True):
        assert weights[values < end - 1e-9].sum() <= share + slack
        assert weights[values <= end + 1e-9].sum() >= share - slack


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 25), st.integers(0, 2**32))
@example(1, 0, 1, 0)
@example(1, 0, 40, 0)  # one discordant pair
@example(0, 0, 2, 0)  # all equal
@example(3, 0, 0, 0)  # a always better
def test_bootstrap_interval_is_that_of_all_resamples(only_a, only_b, ties, seed):
    """Drawing n pairs of a 2 x 2 table adds n steps of -1, 0 or 1, whose distribution is known exactly."""
    n = only_a + only_b + ties
    if n < 2:
        only_a, n = only_a + 2, n + 2
    sums = np.ones(1)
    for _ in range(n):
        sums = np.convolve(sums, np.array([only_b, ties, only_a]) / n)
    a = [1] * only_a + [0] * only_b + [1] * ties
    b = [0] * only_a + [1] * only_b + [1] * ties
    difference, *interval = paired_bootstrap(a, b, seed)
    assert difference == pytest.approx((only_a - only_b) / n)
    # six standard deviations of a share of 2.5 % among 10,000 resamples
    assert_percentiles(interval, np.arange(-n, n + 1) / n, sums, slack=0.0094)


shares = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0])
answers = st.lists(st.tuples(shares, shares, st.integers(0, 9)), min_size=2, max_size=60)


@settings(max_examples=15, deadline=None)
@given(answers, st.booleans(), st.integers(0, 2**32))
def test_bootstrap_agrees_with_plain_resampling(rows, clustered, seed):
    """Scores that are shares, and questions that share a context, against whole units drawn by numpy."""
    a, b, contexts = (np.array(column) for column in zip(*rows, strict=True))
    units = [np.flatnonzero(contexts == each) for each in np.unique(contexts)] if clustered else list(range(len(a)))
    difference, *interval = paired_bootstrap(a, b, seed, 4000, clusters=contexts if clustered else None)
    assert difference == pytest.approx(np.mean(a) - np.mean(b))
    if len(units) == 1:
        assert interval == [-1.0, 1.0]
        return
    sums, sizes = np.array([[(a - b)[unit].sum(), np.size(unit)] for unit in units]).T
    drawn = np.random.default_rng(seed + 1).integers(len(units), size=(4000, len(units)))
    values = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    # six standard deviations of the difference between two shares of 2.5 % among 4,000 resamples
    assert_percentiles(interval, values, np.full(4000, 1 / 4000), slack=0.021)


def test_bootstrap_edges():
    assert paired_bootstrap([1], [0]) == (1.0, -1.0, 1.0)
    assert paired_bootstrap([0.5], [0.5]) == (0.0, -1.0, 1.0)
    assert paired_bootstrap([1, 1, 1], [1, 1, 1], resamples=50) == (0.0, 0.0, 0.0)
    assert paired_bootstrap([1, 1, 1], [0, 0, 0], resamples=50) == (1.0, 1.0, 1.0)
    for a, b in (([], []), ([1], [1, 0])):
        with pytest.raises(ValueError, match="same samples"):
            paired_bootstrap(a, b)
    with pytest.raises(ValueError, match="same samples"):
        paired_bootstrap([1, 0], [0, 0], clusters=[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_sign_flip_counts_all_signs(differences):
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in product((-1, 1), repeat=len(differences))]  # fmt: skip
    expected = np.mean([total >= abs(sum(differences)) for total in sums])
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip([-d for d in differences]) == sign_flip(differences)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=9), st.sampled_from([1, 2, 3, 8]))
@example([0, 0], 1)
@example([1, 0, 0], 1)
@example([1, -1], 1)
def test_sign_flip_is_scipys_exact_permutation_test(whole, denominator):
    """Of one sample, scipy's "samples" permutations change the sign of each observation, in every way."""
    from scipy.stats import permutation_test

    expected = permutation_test((whole,), np.sum, permutation_type="samples", vectorized=True, n_resamples=2**9)
    assert sign_flip([each / denominator for each in whole]) == pytest.approx(expected.pvalue)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 20))
def test_sign_flip_of_single_questions_is_mcnemar(b, c, ties):
    assert sign_flip([1] * b + [-1] * c + [0] * ties) == pytest.approx(mcnemar_exact(b, c))


def test_holm_known_values():
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(0, 999))
@example([10, 10, 10], 14)
def test_holm_rejects_what_the_stepwise_procedure_rejects(thousandths, level):
    """From the smallest p on, while p <= alpha / (hypotheses left); alpha stands between any two products."""
    alpha, p_values = (2 * level + 1) / 2000, [k / 1000 for k in thousandths]
    rejected = 0
    for p in sorted(p_values):
        if p > alpha / (len(p_values) - rejected):
            break
        rejected += 1
    adjusted = holm(p_values)
    assert sum(q <= alpha for q in adjusted) == rejected
    assert sorted(p for p, q in zip(p_values, adjusted, strict=True) if q <= alpha) == sorted(p_values)[:rejected]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= min(1, len(p_values) * p) + 1e-12 for p, q in zip(p_values, adjusted, strict=True))
    ordered = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_bootstrap_draws_whole_clusters():
    """Ten copies of each question say no more than one: the interval is that of the units."""
    rng = np.random.default_rng(0)
    a, b = rng.random(40) < 0.7, rng.random(40) < 0.5
    once = paired_bootstrap(a, b, 3, 2000)
    units = np.repeat(np.arange(40), 10)
    assert paired_bootstrap(np.repeat(a, 10), np.repeat(b, 10), 3, 2000, clusters=units) == pytest.approx(once)
    blind = paired_bootstrap(np.repeat(a, 10), np.repeat(b, 10), 3, 2000)
    assert blind[2] - blind[1] < (once[2] - once[1]) / 2
    assert paired_bootstrap([1, 0, 1], [0, 0, 0], clusters=[7, 7, 7]) == (pytest.approx(2 / 3), -1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_sign_flip_of_any_shares_stays_small_and_near(differences):
    """Shares without a common denominator are taken in thousandths."""
    p = sign_flip(differences)
    assert 0 <= p <= 1
    if len(differences) <= 10 and abs(sum(differences)) > 0.02:
        totals = [
            abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in product((-1, 1), repeat=len(differences))
        ]
        nearly = [sum(t >= abs(sum(differences)) + slack for t in totals) / len(totals) for slack in (0.011, -0.011)]
        assert nearly[0] - 1e-9 <= p <= nearly[1] + 1e-9


# Scores over contexts

clusters = st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=8), min_size=2, max_size=12)


def scores_of(found):
    return [(context, score) for context, scores in enumerate(found) for score in scores]


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 12), st.integers(2, 8), st.randoms(use_true_random=False))
def test_the_design_effect_of_equal_contexts_is_that_of_their_means(k, m, random):
    """With equal contexts the score is the mean of K means: its variance is s^2 / K, which numpy computes."""
    found = [[random.choice([0.0, 1.0, 1.0]) for _ in range(m)] for _ in range(k)]
    right, n = sum(map(sum, found)), k * m
    effect = design_effect(right, n, spread(scores_of(found)))
    if not 0 < right < n:
        assert effect is None
        return
    p, variance = right / n, np.var([np.mean(scores) for scores in found], ddof=1) / k
    assert effect == pytest.approx(variance / (p * (1 - p) / n), abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(clusters)
def test_the_design_effect_of_unequal_contexts_is_the_linearised_one(found):
    """The ratio estimator's residuals, context by context, as a survey's textbook has them."""
    right, sizes = np.array([sum(scores) for scores in found]), np.array([len(scores) for scores in found])
    total, n = float(right.sum()), int(sizes.sum())
    effect = design_effect(total, n, spread(scores_of(found)))
    if 0 < total < n:
        p, k = total / n, len(found)
        residuals = right - p * sizes
        assert effect == pytest.approx(k * residuals.var(ddof=1) / (n * p * (1 - p)), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(clusters, clusters)
def test_spreads_of_two_seeds_add_up(one, two):
    parts = spread(scores_of(one)), spread(scores_of(two))
    both, whole = together(parts), spread(scores_of([*one, *two]))
    assert both[:4] == pytest.approx(whole[:4]) and both.means == whole.means and not both.anytime
    assert together([parts[0], parts[1]._replace(anytime=True)]).anytime
    assert together([*parts, Spread()]) == Spread() and together([]) == Spread()


def test_one_question_on_each_context_is_wilsons_interval_and_one_context_says_nothing():
    alone = spread([(i, float(i < 30)) for i in range(40)])
    assert interval(30, 40, alone) == interval(30, 40) == wilson(30, 40)
    assert interval(30, 40, spread([(0, float(i < 30)) for i in range(40)])) == (0.0, 1.0)
    assert [worth_of(40, contexts) for contexts in (40, 1)] == [40, 0]


def test_many_contexts_that_vary_as_independent_answers_do_cost_little():
    from scipy.stats import t

    z = NormalDist().inv_cdf(0.975)
    assert worth_of(400, 100) == pytest.approx(400 * (z / t.ppf(0.975, 99)) ** 2)
    assert worth_of(400, 100, effect=0.5) == worth_of(400, 100)  # a small effect buys nothing
    assert worth_of(400, 100, effect=4.0) == pytest.approx(worth_of(400, 100) / 4)


@pytest.mark.parametrize("k", [5, 20])
def test_the_interval_covers_where_contexts_differ_and_wilsons_does_not(k):
    """Contexts with a rate of their own, Beta(2, 1): 95 of 100 intervals must hold 2/3. Wilson's hold far fewer."""
    rng, m, draws = np.random.default_rng(0), 20, 400
    covers = {"contexts": 0, "wilson": 0}
    for _ in range(draws):
        right = rng.binomial(m, rng.beta(2, 1, k))
        found = Spread(k, float((right**2).sum()), float((right * m).sum()), float(k * m * m))
        for name, (low, high) in {
            "contexts": interval(int(right.sum()), k * m, found), "wilson": wilson(int(right.sum()), k * m)
        }.items():  # fmt: skip
            covers[name] += low <= 2 / 3 <= high
    assert covers["contexts"] >= 0.93 * draws and covers["wilson"] <= 0.85 * draws


def test_over_seeds_is_students_t():
    from scipy.stats import ttest_1samp

    values = [0.1, 0.25, 0.17, 0.3]
    expected = ttest_1samp(values, 0)
    ci = expected.confidence_interval()
    assert over_seeds(values) == pytest.approx((ci.low, ci.high, expected.pvalue))
    assert over_seeds([0.5, 0.5]) == (0.5, 0.5, 0.0) and over_seeds([0.0, 0.0]) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("seeds", [3, 5])
def test_over_seeds_is_wrong_in_one_case_of_twenty_and_a_nested_bootstrap_is_not(seeds):
    """Two alike memories whose trainings differ by 5 points from seed to seed, 200 questions each."""
    rng = np.random.default_rng(5)
    means = np.clip(rng.normal(0.8, 0.05, (2, 2000, seeds)), 0, 1)
    a, b = rng.binomial(200, means) / 200
    wrong = np.mean([over_seeds(row)[2] < 0.05 for row in a - b])
    assert 0.03 < wrong < 0.07
    drawn = rng.integers(0, seeds, (2000, 400, seeds))  # seeds, then samples in each
    again = [np.take_along_axis(np.repeat(side[:, None], 400, 1), drawn, 2) for side in (a, b)]
    difference = np.diff([rng.binomial(200, side).mean(2) / 200 for side in again], axis=0)[0]
    low, high = np.quantile(difference, [0.025, 0.975], axis=1)
    assert np.mean((low > 0) | (high < 0)) > (0.1 if seeds == 3 else 0.07)
