"""Intervals against scipy, against published examples, against counting by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from edgec.evaluate.intervals import (
    PairedCounts,
    paired_interval,
    paired_p_value,
    quantile_ranks,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (81, 263), (9990, 10000)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_of_impossible_counts_is_a_programmers_mistake(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        wilson_interval(successes, n)


def test_paired_interval_gives_the_published_example() -> None:
    """Bentur et al. (2009), worked in Fagerland et al., Statistics in Medicine 33 (2014), 2850."""
    # Half a unit of the last printed digit.
    assert paired_interval(PairedCounts(1, 1, 7, 12)) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    "counts", [PairedCounts(14, 5, 0, 22), PairedCounts(1, 1, 7, 12), PairedCounts(700, 12, 90, 98)]
)
def test_paired_interval_ends_where_the_likelihood_under_a_difference_says(counts: PairedCounts) -> None:
    n, first, second = sum(counts), counts.first, counts.second

    def score(difference: float) -> float:
        def unlikelihood(share: float) -> float:
            rest = 1 - 2 * share - difference
            told = ((first, share + difference), (second, share), (n - first - second, rest))
            return -sum(count * np.log(max(part, 1e-300)) for count, part in told)

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = optimize.minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
        return (first - second - n * difference) / np.sqrt(n * (2 * share + difference * (1 - difference)))

    found = (first - second) / n
    low = optimize.brentq(lambda d: score(d) - 1.959964, -0.95, found)
    high = optimize.brentq(lambda d: score(d) + 1.959964, found, 0.95)
    # The bounded search ends within 1e-8 of the likeliest share.
    assert paired_interval(counts) == pytest.approx((low, high), abs=1e-5)


def test_models_that_agree_on_every_image_may_differ_on_as_many_as_were_never_seen() -> None:
    low, high = paired_interval(PairedCounts(80, 0, 0, 20))
    assert (low, high) == pytest.approx((-wilson_interval(0, 100).high, wilson_interval(0, 100).high))


def test_paired_interval_is_near_the_bootstrap_of_many_pairs() -> None:
    counts = PairedCounts(700, 120, 60, 120)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(1000, np.array(counts) / 1000, size=20_000)
    expected = np.quantile((draws[:, 1] - draws[:, 2]) / 1000, [0.025, 0.975])
    # The bootstrap's quantiles scatter by 3e-4, and lie on a grid of 1e-3; a score interval is a little wider.
    assert paired_interval(counts) == pytest.approx(tuple(expected), abs=3e-3)


def test_paired_interval_covers_the_truth_in_about_95_percent() -> None:
    shares = np.array([0.72, 0.14, 0.06, 0.08])
    draws = np.random.default_rng(1).multinomial(100, shares, size=2000)
    intervals = np.array([paired_interval(PairedCounts(*map(int, draw))) for draw in draws])
    covered = ((intervals[:, 0] <= 0.08) & (intervals[:, 1] >= 0.08)).mean()
    # Three standard errors of 2,000 draws are 1.5 points; the method is known to lie at or slightly above 95 %.
    assert 0.935 <= covered <= 0.98


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 0), (5, 5), (12, 4), (900, 1100), (4000, 4100)])
def test_mcnemar_agrees_with_the_exact_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert paired_p_value(PairedCounts(50, first, second, 50)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [5, 6, 50, 400, 3000])
def test_quantile_ranks_are_the_tightest_that_the_binomial_allows(n: int, quantile: float) -> None:
    count = stats.binom(n, quantile)
    low, high = quantile_ranks(n, quantile)
    # Position r, from 0, lies above the quantile when at most r values lie below it, below when more than r do.
    allowed_low = [r for r in range(n) if count.cdf(r) <= 0.025]
    allowed_high = [r for r in range(n) if count.sf(r) <= 0.025]
    assert low == (allowed_low[-1] if allowed_low else None)
    assert high == (allowed_high[0] if allowed_high else None)


def test_the_median_of_50_lies_between_the_18th_and_the_33rd() -> None:
    # As in any table of the sign test.
    assert quantile_ranks(50, 0.5) == (17, 32)
