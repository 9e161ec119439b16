"""Class frequencies read from a last layer: what is read, and when it is used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.learn.prior import logit_shift
from edgec.learn.prior_estimate import LEAST_SPREAD, POWER, PriorEstimate, estimate_prior, lean_of, no_estimate

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
SHOWN = np.array([0, 0, 1, 2, 3, 4, 4, 5, 6, 6, 6])
LENGTHS = np.array([2.0, 1.5, 1.0])


def weight(lengths: np.ndarray) -> np.ndarray:
    """Rows of these lengths, in directions of their own."""
    return lengths[:, None] * np.eye(len(lengths), 5)


def leaning(to: int) -> np.ndarray:
    """Views that are given to their class by 0.6, to another class by 0.4."""
    found = np.zeros((len(SHOWN), 3))
    found[np.arange(len(SHOWN)), LABELS[SHOWN]] += 0.6
    found[:, to] += 0.4
    return found


def test_frequencies_go_as_a_power_of_the_lengths() -> None:
    found = estimate_prior(weight(LENGTHS), leaning(0), SHOWN, LABELS, seed=0)
    shares = np.array(found.counts) / sum(found.counts)
    np.testing.assert_allclose(shares, LENGTHS**POWER / (LENGTHS**POWER).sum(), atol=1e-3)
    logs = np.log(LENGTHS)
    np.testing.assert_allclose(
        logit_shift(found.counts, strength=1.0), -POWER * (logs - logs.mean()), atol=1e-2
    )  # counts are whole


def test_it_is_used_where_rows_differ_and_views_lean_to_the_long_ones() -> None:
    found = estimate_prior(weight(LENGTHS), leaning(0), SHOWN, LABELS, seed=0)
    assert found.used
    assert found.lean > 0
    assert found.agreeing > 0.9
    assert found.low <= found.lean <= found.high
    assert "logits are adjusted by estimated class frequencies" in found.told


def test_views_that_lean_to_short_rows_forbid_it() -> None:
    found = estimate_prior(weight(LENGTHS), leaning(2), SHOWN, LABELS, seed=0)
    assert not found.used
    assert found.lean < 0
    assert "leans away from classes of long rows" in found.told
    assert "logits are not adjusted" in found.told


def test_rows_of_nearly_one_length_forbid_it() -> None:
    rows = np.exp(0.9 * LEAST_SPREAD * np.array([1.0, 0.0, -1.0]) / np.std([1, 0, -1]))
    found = estimate_prior(weight(rows), leaning(0), SHOWN, LABELS, seed=0)
    assert not found.used
    assert found.spread == pytest.approx(0.9 * LEAST_SPREAD)


@pytest.mark.parametrize("row", [0.0, np.nan])
def test_rows_that_have_no_length_are_said(row: float) -> None:
    found = estimate_prior(weight(np.array([1.0, 2.0, row])), leaning(0), SHOWN, LABELS, seed=0)
    assert not found.used
    assert "rows that are 0 or not finite" in found.why


def test_no_estimate_adjusts_nothing() -> None:
    found = no_estimate("nothing to read")
    assert found.told == "model.trained_on = 'estimate': logits are not adjusted: nothing to read"
    assert PriorEstimate.model_validate_json(found.model_dump_json()) == found


def test_lean_is_the_slope_of_the_balanced_likelihood() -> None:
    rng = np.random.default_rng(0)
    logits, scale = rng.normal(size=(len(SHOWN), 3)), np.array([1.0, 0.0, -1.0])

    def mean_log_likelihood(strength: float) -> float:
        shifted = logits - strength * scale
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        own = logs[np.arange(len(SHOWN)), LABELS[SHOWN]]
        classes = [
            np.mean([own[sample == SHOWN].mean() for sample in np.flatnonzero(label == LABELS)]) for label in range(3)
        ]
        return float(np.mean(classes))

    given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    step = 1e-5
    slope = (mean_log_likelihood(step) - mean_log_likelihood(-step)) / (2 * step)
    assert lean_of(scale, given, SHOWN, LABELS, seed=0)[0] == pytest.approx(slope, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_teachers_without_error_lean_nowhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lean, drawn = lean_of(rng.normal(size=3), np.eye(3)[LABELS[SHOWN]], SHOWN, LABELS, seed=seed)
    assert lean == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(drawn, 0, atol=1e-12)


def test_a_class_or_a_sample_without_views_takes_no_part() -> None:
    shown = SHOWN[LABELS[SHOWN] != 2]
    found = estimate_prior(weight(LENGTHS), leaning(0)[LABELS[SHOWN] != 2], shown, LABELS, seed=0)
    assert np.isfinite([found.lean, found.low, found.high]).all()
    assert len(found.counts) == 3
