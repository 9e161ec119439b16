"""Laws of the intervals and accuracies that hold for any counts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.measurement import Stage
from edgec.evaluate.accuracy import accuracy_measurements
from edgec.evaluate.intervals import (
    PairedCounts,
    paired_interval,
    paired_p_value,
    quantile_ranks,
    wilson_interval,
)

COUNT = st.integers(0, 300)
PAIRS = st.builds(PairedCounts, COUNT, COUNT, COUNT, COUNT).filter(lambda counts: sum(counts) > 0)


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_holds_the_estimate_and_mirrors(n: int, share: float) -> None:
    successes = round(share * n)
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high
    mirrored = wilson_interval(n - successes, n)
    np.testing.assert_allclose((mirrored.low, mirrored.high), (1 - high, 1 - low), atol=1e-12)


@given(counts=PAIRS)
def test_swapping_the_models_mirrors_the_interval_and_keeps_the_p_value(counts: PairedCounts) -> None:
    swapped = PairedCounts(counts.both, counts.second, counts.first, counts.neither)
    low, high = paired_interval(counts)
    difference = (counts.first - counts.second) / sum(counts)
    # Sums of squares near cancellation: 1e-16 under a root is 1e-8.
    assert -1 - 1e-7 <= low <= difference + 1e-7
    assert difference - 1e-7 <= high <= 1 + 1e-7
    np.testing.assert_allclose(paired_interval(swapped), (-high, -low), atol=1e-7)
    assert paired_p_value(swapped) == paired_p_value(counts)
    assert 0 < paired_p_value(counts) <= 1


@given(n=st.integers(1, 600), percent=st.sampled_from([50, 90, 99]))
def test_ranks_enclose_the_sample_quantile(n: int, percent: int) -> None:
    low, high = quantile_ranks(n, percent / 100)
    sample = -(-n * percent // 100) - 1
    assert low is None or low <= sample
    assert high is None or sample <= high < n


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_test_images_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    order = rng.permutation(40)
    common = {"stage": Stage.ARTIFACT, "where": "here", "train_counts": np.array([9, 4, 2, 1])}
    first = accuracy_measurements(logits, labels, "abcd", **common)
    assert accuracy_measurements(logits[order], labels[order], "abcd", **common) == first
