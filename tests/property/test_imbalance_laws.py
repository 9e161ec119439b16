"""Laws of imbalance profiles and of the draws that follow them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.inputs import InputSpec
from edgec.data import draw_few, imbalance_counts
from edgec.data.arrays import array_samples

profiles = st.sampled_from(["exponential", "step", "linear"])
ratios = st.floats(1, 1000)


@settings(deadline=None)
@given(classes=st.integers(1, 120), total=st.integers(1, 5000), imbalance=ratios, profile=profiles)
def test_counts_sum_to_the_total_never_rise_and_leave_no_class_out_without_need(
    classes: int, total: int, imbalance: float, profile: str
) -> None:
    counts = imbalance_counts(classes, total=total, imbalance=imbalance, profile=profile)
    assert counts.shape == (classes,)
    assert counts.sum() == total
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= (1 if total >= classes else 0)


@settings(deadline=None)
@given(classes=st.integers(2, 50), imbalance=ratios, profile=profiles)
def test_many_samples_come_as_near_to_the_ratio_as_whole_numbers_can(
    classes: int, imbalance: float, profile: str
) -> None:
    counts = imbalance_counts(classes, total=10_000_000, imbalance=imbalance, profile=profile)
    # Each count is within 1 of its share.
    assert (counts[0] - 1) / (counts[-1] + 1) <= imbalance <= (counts[0] + 1) / (counts[-1] - 1)


@settings(deadline=None)
@given(classes=st.integers(1, 50), each=st.integers(1, 40), profile=profiles)
def test_no_imbalance_is_balance(classes: int, each: int, profile: str) -> None:
    assert set(imbalance_counts(classes, total=classes * each, imbalance=1, profile=profile)) == {each}


@settings(deadline=None)
@given(total=st.integers(1, 60), imbalance=ratios, profile=profiles, seed=st.integers(0, 2**32))
def test_a_draw_takes_distinct_samples_and_keeps_their_labels(
    total: int, imbalance: float, profile: str, seed: int
) -> None:
    pixels = np.arange(240, dtype=np.uint8).reshape(240, 1, 1)
    labels = np.arange(240) // 60
    samples = array_samples(
        pixels,
        labels,
        InputSpec(height=1, width=1, channels=1, mean=(0.5,), std=(0.5,)),
        names=("a", "b", "c", "d"),
        classes=None,
        where="x",
    )
    few = draw_few(samples, total=total, imbalance=imbalance, profile=profile, seed=seed)
    values = few.pixels[np.arange(total)].ravel()
    assert len(set(values.tolist())) == total
    np.testing.assert_array_equal(values // 60, few.labels)
    expected = imbalance_counts(4, total=total, imbalance=imbalance, profile=profile)
    assert sorted(few.counts.tolist()) == sorted(expected.tolist())
