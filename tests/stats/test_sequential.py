"""What holds at every look: against closed forms, against coverage in simulations, and against a user who peeks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln
from scipy.stats import binom

from atlas_bench.stats.intervals import interval as interval_of
from atlas_bench.stats.intervals import spread, wilson
from atlas_bench.stats.sequential import counted, difference_interval, evidence, interval, log_capital

LOOKS = 50  # of a user who peeks after every ten samples, 500 in all
answers = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.02, 0.98))
def test_of_right_and_wrong_answers_it_is_the_beta_binomial_mixture(right, wrong, mean):
    """Robbins 1970: B(1/2 + right, 1/2 + wrong) / B(1/2, 1/2) / (mean^right (1 - mean)^wrong)."""
    exact = betaln(0.5 + right, 0.5 + wrong) - betaln(0.5, 0.5) - right * math.log(mean) - wrong * math.log1p(-mean)
    assert log_capital([1.0, 0.0], [right, wrong], mean) == pytest.approx(exact, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(answers, st.floats(0.05, 0.95))
def test_the_capital_is_the_product_of_its_bets(scores, mean):
    bets = (1 - np.cos((np.arange(512) + 0.5) * np.pi / 512)) / 2
    capital = np.ones(512)
    for x in scores:
        capital *= x * bets / mean + (1 - x) * (1 - bets) / (1 - mean)
    values, counts = zip(*counted(scores), strict=True)
    assert math.exp(log_capital(values, counts, mean)) == pytest.approx(capital.mean())


@settings(max_examples=40, deadline=None)
@given(answers)
def test_an_interval_holds_the_means_that_are_not_refuted(scores):
    found = counted(scores)
    low, high = interval(found)
    values, counts = zip(*found, strict=True)
    assert 0 <= low <= np.mean(scores) <= high <= 1
    for bound, outside in ((low, low - 1e-6), (high, high + 1e-6)):
        if 0 < outside < 1:
            assert log_capital(values, counts, outside) > math.log(20)
        if 1e-6 < bound < 1 - 1e-6:
            assert log_capital(values, counts, bound) == pytest.approx(math.log(20), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60))
def test_evidence_of_twenty_is_an_interval_without_zero(differences):
    found = counted(differences)
    low, high = difference_interval(found)
    if not math.isclose(evidence(found), 20, rel_tol=1e-6):
        assert (evidence(found) > 20) == (low > 0 or high < 0)
    assert evidence(counted(-d for d in differences)) == pytest.approx(evidence(found))


def test_nothing_asked_says_nothing():
    assert interval(()) == (0.0, 1.0) and evidence(()) == 1.0


def peeking(rng, chance: float, discordant: float, simulations: int = 1000) -> np.ndarray:
    """[simulations, LOOKS, 3] how often -1, 0 and 1 have been seen, of paired answers, at each look."""
    odds = [discordant * (1 - chance), 1 - discordant, discordant * chance]
    seen = rng.choice([-1, 0, 1], p=odds, size=(simulations, 10 * LOOKS))
    return np.stack([(seen == value).cumsum(1)[:, 9::10] for value in (-1, 0, 1)], axis=-1)


@pytest.mark.parametrize("discordant", [0.05, 0.3, 1.0])
def test_a_user_who_peeks_after_every_ten_samples_is_wrong_in_one_case_of_twenty(discordant):
    """1,000 comparisons of equals: he stops at the first verdict. McNemar's exact test would fool him."""
    seen = peeking(np.random.default_rng(1), 0.5, discordant)
    by_betting = log_capital([0.0, 0.5, 1.0], seen, 0.5) >= math.log(20)
    assert by_betting.any(1).mean() <= 0.05
    worse, better = seen[..., 0], seen[..., 2]
    mcnemar = 2 * binom.cdf(np.minimum(worse, better), worse + better, 0.5) < 0.05
    assert mcnemar.any(1).mean() > 0.05


def test_a_real_difference_is_found_early_and_in_its_own_direction():
    seen = peeking(np.random.default_rng(2), 0.9, 0.3)
    decided = log_capital([0.0, 0.5, 1.0], seen, 0.5) >= math.log(20)
    first = seen[np.arange(1000), decided.argmax(1)]
    assert decided.any(1).mean() > 0.99 and np.median(decided.argmax(1)) < 9  # 100 samples of 500
    assert (first[:, 2] > first[:, 0]).mean() > 0.99


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.97])
def test_an_interval_covers_at_every_look_at_once(mean):
    right = (np.random.default_rng(3).random((1000, 10 * LOOKS)) < mean).cumsum(1)[:, 9::10]
    counts = np.stack([np.arange(10, 10 * LOOKS + 1, 10) - right, right], axis=-1)
    missed = log_capital([0.0, 1.0], counts, mean) >= math.log(20)
    assert missed.any(1).mean() <= 0.05
    wrong = [any(not low <= mean <= high for low, high in row) for row in _wilson(right[:200])]
    assert np.mean(wrong) > 0.05


def _wilson(right):
    return [[wilson(int(x), 10 * (i + 1)) for i, x in enumerate(row)] for row in right]


@pytest.mark.slow
def test_contexts_that_differ_are_covered_too():
    """Eight questions on a context, of a difficulty of its own: the mean of each context is one score."""
    rng = np.random.default_rng(4)
    difficulty = rng.beta(2, 1, (300, 40, 1))
    means = (rng.random((300, 40, 8)) < difficulty).mean(2)
    missed = 0
    for row in means:
        bounds = [interval(counted(row[:k])) for k in (5, 10, 20, 40)]
        missed += any(not low <= 2 / 3 <= high for low, high in bounds)
    assert missed / 300 <= 0.05


def test_a_spread_that_was_looked_at_has_this_interval():
    scores = [(i, float(i % 3 > 0)) for i in range(60)]
    fixed = spread(scores)
    right = sum(score for _, score in scores)
    assert interval_of(right, 60, fixed._replace(anytime=True)) == interval(fixed.means)
    low, high = interval_of(right, 60, fixed)
    assert interval(fixed.means)[0] < low and interval(fixed.means)[1] > high  # what peeking costs
