"""What is measured a few times over: a median whose interval holds the truth, and none where there are too few."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.bench.repeats import FEWEST, Repeated


def test_a_median_is_a_value_that_was_measured() -> None:
    assert Repeated.of([3.0, 1.0, 2.0, 9.0]).value == 2.0
    assert Repeated.of([7.0]) == Repeated(value=7.0, low=None, high=None, runs=1)


def test_the_fewest_measurements_with_an_interval_have_their_ends_as_its_ends() -> None:
    assert Repeated.of(range(FEWEST - 1)).low is None
    assert Repeated.of(range(FEWEST)) == Repeated(value=2.0, low=0.0, high=FEWEST - 1.0, runs=FEWEST)


@pytest.mark.parametrize("runs", [FEWEST, 7, 20])
def test_the_interval_holds_the_median_of_skewed_values_in_95_percent(runs: int) -> None:
    rng, truth = np.random.default_rng(0), np.log(2)
    found = [Repeated.of(rng.exponential(size=runs)) for _ in range(2000)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    # Its exact coverage is 95.7 % or more; the mean of 2,000 has a deviation of 0.5 points.
    assert held >= 0.94
