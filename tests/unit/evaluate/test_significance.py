"""Proofs against independent statistics, and against simulated models that are no worse than they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, multinomial
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import PairedCounts
from edgec.evaluate.significance import (
    ALPHA,
    Proof,
    binomial_tails,
    drop_tails,
    holm,
    images_for_drop,
    images_for_interval,
    images_for_share,
    prove_by_interval,
    prove_exactly,
    prove_floor,
    worst_of,
)

COUNTS = PairedCounts(both=70, first=18, second=6, neither=6)


def measured(value: float, *, n: int = 100, low: float | None = None, high: float | None = None) -> Measurement:
    return Measurement(
        stage=Stage.ARTIFACT, name="accuracy", value=value, unit="share", n=n, low=low, high=high, where="here"
    )


@pytest.mark.parametrize(("successes", "n", "share"), [(0, 7, 0.3), (7, 7, 0.3), (180, 200, 0.95), (9120, 10_000, 0.9)])
def test_binomial_tails_are_scipys(successes: int, n: int, share: float) -> None:
    expected = [binomtest(successes, n, share, alternative=side).pvalue for side in ("less", "greater")]
    assert binomial_tails(successes, n, share) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("successes", "share", "expected"), [(5, 1.0, (1, 1)), (4, 1.0, (0, 1)), (0, 0.0, (1, 1))])
def test_a_limit_at_the_end_of_the_scale_is_broken_by_a_single_image(
    successes: int, share: float, expected: tuple[float, float]
) -> None:
    assert binomial_tails(successes, 5, share) == expected


def test_no_images_prove_nothing() -> None:
    assert binomial_tails(0, 0, 0.5) == (1.0, 1.0)


def test_a_drop_against_none_is_mcnemars_exact_test() -> None:
    less, more = drop_tails(COUNTS, 0.0)
    assert 2 * min(less, more) == pytest.approx(mcnemar([[70, 18], [6, 6]], exact=True).pvalue, abs=1e-9)
    assert more < ALPHA < less


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.2])
def test_the_score_test_uses_the_likeliest_share_under_the_limit(limit: float) -> None:
    both, first, second, neither = COUNTS
    n = sum(COUNTS)

    def unlikelihood(share: float) -> float:
        rest = 1 - 2 * share - limit
        return -(first * math.log(share + limit) + second * math.log(share) + (both + neither) * math.log(rest))

    share = minimize_scalar(unlikelihood, bounds=(1e-9, (1 - limit) / 2), method="bounded", options={"xatol": 1e-12}).x
    z = (first - second - n * limit) / math.sqrt(n * (2 * share + limit * (1 - limit)))
    told = trinom_of_scores(n, limit, share)
    # The search ends within 1e-8 of the likeliest share, and so near to the score; no two counts are that near.
    expected = sum(p for score, p in told if score <= z + 1e-5), sum(p for score, p in told if score >= z - 1e-5)
    assert drop_tails(COUNTS, limit) == pytest.approx(expected, abs=1e-6)


def trinom_of_scores(n: int, limit: float, share: float) -> list[tuple[float, float]]:
    """Of every pair of counts its score, and how likely it is where the drop is at the limit."""
    shares = [share + limit, share, 1 - 2 * share - limit]
    found = []
    for first in range(n + 1):
        for second in range(n + 1 - first):
            half = (2 * n - first + second) * limit - first - second
            q = (math.sqrt(half**2 + 8 * n * second * limit * (1 - limit)) - half) / (4 * n)
            score = (first - second - n * limit) / math.sqrt(n * (2 * q + limit * (1 - limit)))
            found.append((score, float(multinomial.pmf([first, second, n - first - second], n, shares))))
    return found


@pytest.mark.parametrize(
    ("n", "limit", "share"), [(50, 0.1, 0.005), (200, 0.1, 0.0), (200, 0.05, 0.005), (500, 0.05, 0.03)]
)
@pytest.mark.parametrize("classes", [1, 100])
def test_of_classes_at_the_limit_none_is_called_worse_more_often_than_promised(
    n: int, limit: float, share: float, classes: int
) -> None:
    """Exactly, over all counts that occur; by the normal distribution it is 6 and up to 14 %."""
    proven = 0.0
    for first in range(math.ceil(n * limit), round(4 * n * limit) + 20):
        for second in range(round(n * share) + 12):
            p = binom.pmf(second, n, share) * binom.pmf(first, n - second, (share + limit) / (1 - share))
            counts = PairedCounts(both=n - first - second, first=first, second=second, neither=0)
            if p > 1e-9 and drop_tails(counts, limit)[1] <= ALPHA / classes:
                proven += p
    assert 1 - (1 - proven) ** classes <= 0.06


def test_holms_correction_is_statsmodels() -> None:
    values = np.random.default_rng(0).uniform(size=40) ** 4
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-12)
    assert holm([]) == []


def test_a_floor_is_proven_and_broken_by_enough_images() -> None:
    assert prove_floor(measured(0.9, n=1000), 0.85).holds < ALPHA
    assert prove_floor(measured(0.8, n=1000), 0.85).breach < ALPHA
    few = prove_floor(measured(0.8, n=20), 0.85)
    assert min(few.holds, few.breach) > ALPHA


def test_as_many_images_as_are_named_settle_it_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    n = images_for_share(0.8, 0.85)
    assert n is not None
    settled = [binomial_tails(int(right), n, 0.85)[0] <= ALPHA for right in rng.binomial(n, 0.8, size=2000)]
    assert np.mean(settled) == pytest.approx(0.8, abs=0.04)


def test_as_many_pairs_as_are_named_settle_a_drop_four_times_in_five() -> None:
    n = images_for_drop(COUNTS, 0.05)
    assert n is not None
    drawn = np.random.default_rng(0).multinomial(n, np.array(COUNTS) / sum(COUNTS), size=2000)
    settled = [drop_tails(PairedCounts(*map(int, counts)), 0.05)[1] <= ALPHA for counts in drawn]
    assert np.mean(settled) == pytest.approx(0.8, abs=0.04)


def test_on_the_limit_no_number_of_images_would_do() -> None:
    assert images_for_share(0.85, 0.85) is None
    assert images_for_drop(PairedCounts(both=9, first=1, second=0, neither=0), 0.1) is None


def test_as_many_runs_as_are_named_settle_a_mean_four_times_in_five() -> None:
    """Measurements of mean 5.1 and deviation 2, against a limit of 5, with the interval of the normal distribution."""
    half = 1.96 * 2 / math.sqrt(400)
    n = images_for_interval(measured(5.1, n=400, low=5.1 - half, high=5.1 + half), 5.0)
    assert n is not None
    lower = np.random.default_rng(0).normal(5.1, 2 / math.sqrt(n), size=4000) - 1.96 * 2 / math.sqrt(n)
    assert np.mean(lower > 5.0) == pytest.approx(0.8, abs=0.02)


def test_without_both_ends_no_number_of_runs_is_named() -> None:
    assert images_for_interval(measured(5.1, low=5.0), 5.0) is None
    assert images_for_interval(measured(5.0, low=4.9, high=5.1), 5.0) is None


@pytest.mark.parametrize(
    ("low", "high", "proven"), [(0.81, 0.95, "holds"), (0.6, 0.79, "breach"), (0.7, 0.9, None), (None, 0.9, None)]
)
def test_an_interval_proves_what_all_of_it_says(low: float | None, high: float | None, proven: str | None) -> None:
    row = measured(0.8, low=low, high=high)
    floor, ceiling = (prove_by_interval(row, 0.8, floor=floor) for floor in (True, False))
    assert [side for side in ("holds", "breach") if getattr(floor, side) <= ALPHA] == ([proven] if proven else [])
    other = {"holds": "breach", "breach": "holds", None: None}[proven]
    assert [side for side in ("holds", "breach") if getattr(ceiling, side) <= ALPHA] == ([other] if other else [])


@pytest.mark.parametrize("value", [0.0, 0.79, 1.0])
def test_a_number_without_an_interval_proves_nothing(value: float) -> None:
    assert prove_by_interval(measured(value), 0.8, floor=True) == Proof(holds=1.0, breach=1.0, is_blind=True)


def test_a_number_that_chance_does_not_move_proves_itself() -> None:
    assert prove_exactly(holds=True) == Proof(holds=0.0, breach=1.0)
    assert prove_exactly(holds=False) == Proof(holds=1.0, breach=0.0)


def test_a_mean_of_shares_proves_no_more_than_whole_images_would() -> None:
    """8.5 of 10 images: not above a floor that 8 do not prove, not below one that 9 do not break."""
    found = prove_floor(measured(0.85, n=10), 0.5)
    below, above = binomial_tails(9, 10, 0.5)[0], binomial_tails(8, 10, 0.5)[1]
    assert (found.breach, found.holds) == (below, above)


def test_all_hold_where_the_weakest_does_and_one_breach_is_corrected_for_their_number() -> None:
    proofs = [Proof(holds=0.01, breach=0.9, images=10), Proof(holds=0.2, breach=0.02, images=500)]
    assert worst_of(proofs) == Proof(holds=0.2, breach=0.04, images=500)


@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_models_at_the_limit_are_seldom_called_worse(limit: float) -> None:
    """Ten classes of 200 images, a tenth of them right for one model alone; the drop is exactly the limit."""
    rng = np.random.default_rng(1)
    chances = [0.8, (0.1 + limit) / 2, (0.1 - limit) / 2, 0.1]
    alarms = 0
    for counts in rng.multinomial(200, chances, size=(400, 10)):
        tails = [drop_tails(PairedCounts(*map(int, row)), limit)[1] for row in counts]
        alarms += min(holm(tails)) <= ALPHA
    assert alarms / 400 <= 0.08
