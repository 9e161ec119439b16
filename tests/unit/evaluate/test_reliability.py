"""Groups of equal confidence: against a slow reference, and against the calibration error of the same answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate.accuracy import reliability_of
from edgec.evaluate.reliability import reliability_bins

BINS = 15


def test_groups_are_those_of_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.random(500), rng.random(500) < 0.7
    expected = []
    for number in range(BINS):
        inside = [i for i in range(500) if number / BINS < confidence[i] <= (number + 1) / BINS]
        if inside:
            sure = sum(confidence[i] for i in inside) / len(inside)
            expected.append((len(inside), sure, sum(bool(right[i]) for i in inside) / len(inside)))
    found = [(each.n, each.confidence, each.accuracy) for each in reliability_bins(confidence, right)]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # confidences are rounded to six digits


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_every_image_is_in_one_group(answers: list[tuple[float, bool]]) -> None:
    confidence, right = (np.array(values) for values in zip(*answers, strict=True))
    found = reliability_bins(confidence, right)
    assert sum(each.n for each in found) == len(answers)
    assert sum(each.n * each.accuracy for each in found) == pytest.approx(right.sum())
    assert [each.confidence for each in found] == sorted(each.confidence for each in found)


def test_confidence_is_that_of_the_class_that_was_given() -> None:
    logits = np.log(np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1]]))
    low, high = reliability_of(logits, np.array([0, 2]))
    assert (low.confidence, low.accuracy, low.n) == (pytest.approx(0.7), 0.0, 1)
    assert (high.confidence, high.accuracy, high.n) == (pytest.approx(0.9), 1.0, 1)
