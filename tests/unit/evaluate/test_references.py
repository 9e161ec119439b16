"""What gates rest on, against scikit-learn, torchmetrics and statsmodels: equal to 1e-9."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import foldnorm
from sklearn.metrics import accuracy_score, f1_score, recall_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from edgec.core.measurement import Stage
from edgec.evaluate.accuracy import accuracy_measurements
from edgec.evaluate.intervals import PairedCounts, paired_p_value
from edgec.evaluate.significance import drop_tails, holm

NEAR = 1e-9
"""The issue's bar. Sums of some thousand float64 terms of at most 1 are exact to 1e-12."""


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchmetrics turns counts and confidences into float32, by `.float()` or by default, which would cost 1e-7."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(classes: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are often right and seldom sure, and labels, the later classes rarer."""
    rng = np.random.default_rng(seed)
    shares = 0.7 ** np.arange(classes)
    labels = rng.choice(classes, size=n, p=shares / shares.sum())
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    return logits, labels


def ours(logits: np.ndarray, labels: np.ndarray) -> dict[tuple[str, str | None], float]:
    classes = [str(i) for i in range(logits.shape[1])]
    rows = accuracy_measurements(logits, labels, classes, stage=Stage.ARTIFACT, where="here")
    return {(row.name, row.label): row.value for row in rows}


SETS = [(2, 40, 0), (3, 7, 1), (10, 3000, 2), (40, 2000, 3)]


@pytest.mark.parametrize(("classes", "n", "seed"), SETS)
def test_accuracies_and_f1_are_scikit_learns(classes: int, n: int, seed: int) -> None:
    logits, labels = drawn(classes, n, seed)
    found, given = ours(logits, labels), logits.argmax(axis=1)
    present = np.unique(labels)
    recalls = recall_score(labels, given, labels=present, average=None)
    assert found["accuracy", None] == pytest.approx(accuracy_score(labels, given), abs=NEAR)
    assert [found["accuracy", str(label)] for label in present] == pytest.approx(recalls, abs=NEAR)
    assert found["worst_class_accuracy", None] == pytest.approx(min(recalls), abs=NEAR)
    expected = f1_score(labels, given, labels=present, average="macro")
    assert found["macro_f1", None] == pytest.approx(expected, abs=NEAR)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(("classes", "n", "seed"), SETS)
def test_accuracies_f1_and_calibration_error_are_torchmetrics(classes: int, n: int, seed: int) -> None:
    logits, labels = drawn(classes, n, seed)
    found, present = ours(logits, labels), np.unique(labels)
    scores, truth = torch.tensor(logits).softmax(1), torch.tensor(labels)
    recalls = multiclass_accuracy(scores, truth, num_classes=classes, average=None)[present]
    f1 = multiclass_f1_score(scores, truth, num_classes=classes, average=None)[present].mean()
    error = multiclass_calibration_error(scores, truth, num_classes=classes, n_bins=15, norm="l1")
    assert error.dtype == torch.float64
    assert [found["accuracy", str(label)] for label in present] == pytest.approx(recalls.tolist(), abs=NEAR)
    assert found["macro_f1", None] == pytest.approx(float(f1), abs=NEAR)
    assert found["calibration_error", None] == pytest.approx(debiased(logits, labels, float(error)), abs=NEAR)


def debiased(logits: np.ndarray, labels: np.ndarray, error: float) -> float:
    """The error less what scipy's folded normal says that chance adds once more, image by image."""
    scores = softmax(logits, axis=1)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    bias = 0.0
    for i in range(15):
        inside = [(r, c) for r, c in zip(right.tolist(), confidence.tolist(), strict=True) if i < 15 * c <= i + 1]
        if inside:
            spread = math.sqrt(sum(max((r - c) ** 2, c * (1 - c)) for r, c in inside)) / len(labels)
            found = abs(sum(r - c for r, c in inside)) / len(labels)
            bias += foldnorm(found / spread, scale=spread).mean() - found
    return max(error - bias, 0.0)


@pytest.mark.parametrize("counts", [(70, 18, 6, 6), (0, 0, 0, 9), (500, 3, 3, 20), (9000, 260, 190, 550), (1, 0, 7, 0)])
def test_mcnemars_exact_test_is_statsmodels(counts: tuple[int, int, int, int]) -> None:
    pairs = PairedCounts(*counts)
    expected = mcnemar([[pairs.both, pairs.first], [pairs.second, pairs.neither]], exact=True).pvalue
    assert paired_p_value(pairs) == pytest.approx(expected, abs=NEAR)
    assert min(1.0, 2 * min(drop_tails(pairs, 0.0))) == pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("m", [1, 2, 10, 1000])
def test_holms_correction_is_statsmodels(m: int) -> None:
    values = np.random.default_rng(m).uniform(size=m) ** 3
    values[: m // 3] = values[0]
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1], abs=NEAR)
