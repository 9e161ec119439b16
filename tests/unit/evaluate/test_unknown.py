"""The threshold for `unknown` takes no more of any class than it may, a rare one least of all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.core.measurement import Stage
from edgec.evaluate.unknown import fit_threshold, unknown_measurements

SHARES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0.1, 1.0))


@given(SHARES, st.floats(0, 0.9), st.integers(1, 4))
def test_no_class_loses_more_than_its_share(confidence: np.ndarray, most: float, classes: int) -> None:
    labels = np.arange(len(confidence)) % classes
    threshold = fit_threshold(confidence, labels, np.ones(len(confidence)), most=most)
    lost = [(confidence[labels == label] < threshold).mean() for label in np.unique(labels)]
    assert max(lost) <= most + 1e-9


@given(SHARES, st.floats(0, 0.9))
def test_no_higher_threshold_would_do(confidence: np.ndarray, most: float) -> None:
    labels = np.zeros(len(confidence), dtype=int)
    threshold = fit_threshold(confidence, labels, np.ones(len(confidence)), most=most)
    higher = confidence[confidence > threshold]
    if higher.size:
        assert (confidence < higher.min()).mean() > most - 1e-9


def test_a_rare_class_of_low_confidence_bounds_the_threshold() -> None:
    confidence = np.concatenate([np.linspace(0.8, 1, 1000), np.linspace(0.3, 0.5, 10)])
    labels = np.repeat([0, 1], [1000, 10])
    overall = np.quantile(confidence, 0.05)
    assert (confidence[labels == 1] < overall).all()  # a rate over all images would give the rare class up
    threshold = fit_threshold(confidence, labels, np.ones(1010), most=0.1)
    assert (confidence[labels == 1] < threshold).sum() == 1


def test_weights_count_and_images_without_any_do_not() -> None:
    confidence = np.array([0.2, 0.6, 0.7, 0.8])
    labels = np.zeros(4, dtype=int)
    assert fit_threshold(confidence, labels, np.array([0.0, 1, 1, 1]), most=0.3) == 0.6
    assert fit_threshold(confidence, labels, np.array([1.0, 9, 1, 1]), most=0.1) == 0.6
    assert fit_threshold(confidence, labels, np.zeros(4), most=0.1) == 0.0


def test_rows_say_what_is_rejected_as_a_whole_per_class_and_of_other_images() -> None:
    sure, unsure = [5.0, 0, 0], [0.5, 0, 0]
    known = np.array([sure, sure, unsure, sure])
    rows = list(
        unknown_measurements(
            known, np.array([0, 0, 2, 2]), np.array([unsure, unsure, sure]), "abc", threshold=0.9, where="here"
        )
    )
    found = [(row.name, row.label, row.value, row.n) for row in rows]
    assert found == [
        ("unknown_rate", None, 0.25, 4),
        ("unknown_rate", "a", 0.0, 2),
        ("unknown_rate", "c", 0.5, 2),
        ("ood_unknown_rate", None, pytest.approx(2 / 3), 3),
    ]
    assert all(row.stage is Stage.ARTIFACT and row.low is not None and row.low <= row.value for row in rows)


def test_without_other_images_there_is_no_row_of_them() -> None:
    rows = unknown_measurements(np.eye(3), np.arange(3), np.empty((0, 3)), "abc", threshold=0.5, where="here")
    assert [row.name for row in rows] == ["unknown_rate"] * 4
