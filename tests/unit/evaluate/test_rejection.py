"""The area under the ROC curve against scikit-learn, its interval against slow sums and by simulation."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edgec.core.errors import DataError
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.rejection import ranked_area, rejection_measurement

Z = 1.959963984540054


def measured(logits_in: np.ndarray, logits_out: np.ndarray) -> Measurement:
    return rejection_measurement(logits_in, logits_out, stage=Stage.ARTIFACT, where="here")


def logits(n: int, sureness: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 6)).astype(np.float32)
    rows[np.arange(n), rng.integers(0, 6, n)] += sureness
    return rows


def slow_interval(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """DeLong's variance by the double sum, and the ends on the scale of the logit."""
    m, n = len(inside), len(outside)
    wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in outside] for x in inside]
    area = sum(map(sum, wins)) / (m * n)
    rows, columns = [sum(row) / n for row in wins], [sum(row[j] for row in wins) / m for j in range(n)]
    spread = sum((v - area) ** 2 for v in rows) / (m - 1) / m + sum((w - area) ** 2 for w in columns) / (n - 1) / n
    middle, half = math.log(area / (1 - area)), Z * math.sqrt(spread) / (area * (1 - area))
    return tuple(1 / (1 + math.exp(-(middle + sign * half))) for sign in (-1, 1))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 9), (40, 40), (500, 300)])
def test_the_area_is_scikit_learns_of_the_maximum_softmax(m: int, n: int) -> None:
    inside, outside = logits(m, 3.0, 1), logits(n, 1.0, 2)
    rows = np.concatenate([inside, outside]).astype(np.float64)
    highest = 1 / np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1)
    expected = roc_auc_score(np.repeat([1, 0], [m, n]), highest)
    assert measured(inside, outside).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_ties_count_half_as_in_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside, outside = rng.integers(2, 8, 50).astype(float), rng.integers(0, 6, 30).astype(float)
    expected = roc_auc_score(np.repeat([1, 0], [50, 30]), np.concatenate([inside, outside]))
    assert ranked_area(inside, outside).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_that_of_the_double_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(1, 1, 25).round(1), rng.normal(0, 2, 15).round(1)
    # Nothing but rounding differs.
    assert ranked_area(inside, outside).interval == pytest.approx(slow_interval(inside, outside), abs=1e-10)


@pytest.mark.parametrize(
    ("area", "m", "n", "wider"),
    [(0.5, 100, 100, 1), (0.7, 60, 200, 1), (0.9, 100, 100, 2), (0.9, 400, 50, 0.5), (0.97, 200, 200, 1)],
)
def test_the_interval_covers_the_truth_in_about_95_percent(area: float, m: int, n: int, wider: float) -> None:
    # Normal scores, outside with another spread: the area is Φ(d / √(1 + w²)).
    distance = NormalDist().inv_cdf(area) * math.sqrt(1 + wider**2)
    rng = np.random.default_rng(11)
    draws = (ranked_area(rng.normal(distance, 1, m), wider * rng.normal(size=n)).interval for _ in range(1500))
    covered = np.mean([low <= area <= high for low, high in draws])
    # Three standard errors of 1,500 draws are 1.7 points; the normal approximation may miss a point more.
    assert 0.925 <= covered <= 0.975


def test_scores_that_do_not_overlap_leave_a_doubt_as_of_disjoint_pairs() -> None:
    value, interval = ranked_area(np.arange(10.0, 40.0), np.arange(8.0))
    assert value == 1.0
    assert interval == wilson_interval(8, 8)


def test_scores_that_are_all_the_same_tell_nothing() -> None:
    value, (low, high) = ranked_area(np.ones(20), np.ones(30))
    assert value == 0.5
    assert low < 0.35
    assert high > 0.65


def test_one_image_of_each_kind_proves_next_to_nothing() -> None:
    assert ranked_area(np.array([2.0]), np.array([1.0])).interval == wilson_interval(1, 1)


def test_images_of_which_the_model_is_sure_beyond_float64_are_still_told_apart() -> None:
    sure, surer = np.array([[50.0, 0, 0]] * 3), np.array([[90.0, 0, 0]] * 3)
    assert measured(surer, sure).value == 1.0


def test_the_row_says_what_it_is() -> None:
    row = measured(logits(30, 3.0, 1), logits(20, 1.0, 2))
    assert (row.stage, row.name, row.label, row.n) == (Stage.ARTIFACT, "ood_auroc", None, 50)
    assert (row.unit, row.kind, row.where) == ("share", Kind.MEASURED, "here")
    assert row.low is not None
    assert row.low < row.value < row.high


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (np.zeros((0, 3)), np.zeros((2, 3)), "no test images to tell apart"),
        (np.zeros((2, 3)), np.zeros((0, 3)), "no out-of-distribution images to tell apart"),
        (np.zeros((2, 3)), np.zeros((2, 4)), r"logits \(2, 4\) of out-of-distribution images"),
        (np.zeros((2, 1)), np.zeros((2, 1)), r"logits \(2, 1\) of test images"),
        (np.zeros(3), np.zeros((2, 3)), r"logits \(3,\) of test images"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "test images have scores that are NaN or infinite"),
    ],
)
def test_logits_from_which_no_area_follows_are_refused(inside: np.ndarray, outside: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        measured(inside, outside)
