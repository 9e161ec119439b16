"""The growing histogram against NumPy's, on edges of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibrate.histogram import Histogram


def filled(*parts, bins=256):
    histogram = Histogram(bins)
    for part in parts:
        histogram.add(part, np.ones(len(part)))
    return histogram


def edges(histogram):
    return np.arange(-histogram.bins, histogram.bins + 1) * histogram.width


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 3e5, 1e30])
def test_mass_is_what_numpy_counts(scale):
    values = (np.random.default_rng(0).normal(size=(5, 400)) * scale).astype(np.float32)
    histogram = filled(values)
    expected, _ = np.histogram(values.astype(np.float64), edges(histogram))
    assert histogram.mass.tolist() == expected.tolist()


def test_growing_is_exact_and_forgets_the_order():
    rng = np.random.default_rng(1)
    parts = [(rng.normal(size=(2, 300)) * 7.0**power).astype(np.float32) for power in range(-3, 4)]
    at_once = filled(np.concatenate(parts))
    for order in (parts, parts[::-1]):
        grown = filled(*order)
        assert grown.width == at_once.width
        assert grown.mass.tolist() == at_once.mass.tolist()


def test_width_is_the_least_power_of_two_that_holds_all():
    histogram = filled(np.array([[0.1, -3.0]], np.float32), bins=256)
    assert histogram.width == 4 / 256


def test_zero_stands_for_itself():
    histogram = filled(np.zeros((1, 7), np.float32), np.ones((1, 1), np.float32))
    assert histogram.values[np.argmax(histogram.mass)] == 0


def test_growing_from_nothing_to_huge_keeps_the_mass():
    histogram = filled(np.full((1, 3), 1e-30, np.float32), np.full((1, 2), -1e30, np.float32))
    assert histogram.mass.sum() == 5
    assert histogram.mass[histogram.bins] == 3


def test_zeros_say_nothing_of_the_width():
    tiny = np.linspace(-1e-3, 1e-3, 999, dtype=np.float32)[None]
    first, alone, last = (
        filled(np.zeros((1, 5), np.float32), tiny),
        filled(tiny),
        filled(tiny, np.zeros((1, 5), np.float32)),
    )
    assert first.width == alone.width == last.width
    assert np.count_nonzero(first.mass) == np.count_nonzero(alone.mass) > 200
    assert first.mass.tolist() == last.mass.tolist()


@given(st.integers(0, 1000), st.sets(st.integers(1, 8), max_size=4))
def test_how_images_are_split_into_batches_does_not_matter(seed, cuts):
    rng = np.random.default_rng(seed)
    # Images of zeros alone, of tiny and of large values, as dead and saturated channels give them.
    scales = rng.choice(np.array([0, 1e-6, 1, 1e3]), (9, 1))
    values = (rng.normal(size=(9, 5)) * scales).astype(np.float32)
    whole, split = filled(values), filled(*np.split(values, sorted(cuts)))
    assert (whole.exponent, whole.low, whole.high) == (split.exponent, split.low, split.high)
    assert whole.mass.tolist() == split.mass.tolist()
