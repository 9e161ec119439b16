"""Every interval of a report holds the truth as often as it says: counted exactly, or by simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from edgec.core.measurement import Stage
from edgec.evaluate.accuracy import macro_f1_interval
from edgec.evaluate.bootstrap import class_mean_rows
from edgec.evaluate.intervals import PairedCounts, lowest_share_interval, paired_interval, wilson_interval
from edgec.evaluate.paired import Pairs
from edgec.evaluate.rejection import ranked_area
from edgec.evaluate.reliability import calibration_error
from edgec.evaluate.significance import binomial_tails

LEAST = 0.93
SIZES = (20, 200, 2000)
SHARES = (0.0, 0.5, 0.99, 1.0)
DRAWS = 200
CHANCE = 0.03
"""Two standard errors of 200 draws at 95 %: benchmarks/gates.py draws more and needs less."""
CLASSES = 10


def covered(ends: list[tuple[float, float]], truth: float) -> float:
    low, high = np.array(ends).T
    return float(((low <= truth + 1e-9) & (high >= truth - 1e-9)).mean())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_of_a_share_of_images(n: int, share: float) -> None:
    """Exactly, over all counts."""
    holding = [k for k in range(n + 1) if wilson_interval(k, n).low <= share <= wilson_interval(k, n).high]
    below, above = binomial_tails(holding[-1], n, share)[0], binomial_tails(holding[0], n, share)[1]
    assert below + above - 1 >= LEAST


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("share", SHARES)
def test_of_the_lowest_of_many_classes_that_are_alike(classes: int, n: int, share: float) -> None:
    """The class that came out lowest was picked for it: its own interval would miss the truth nearly always."""
    right = np.random.default_rng(0).binomial(n, share, size=(DRAWS, classes))
    ends = [lowest_share_interval(row, np.full(classes, n)) for row in right]
    assert covered(ends, share) >= LEAST - CHANCE


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_of_a_drop_in_pairs(n: int, share: float) -> None:
    """The first model has the share; of what it gets right the second loses 2 %."""
    counts = np.random.default_rng(0).multinomial(n, [0.98 * share, 0.02 * share, 0, 1 - share], size=DRAWS)
    ends = [paired_interval(PairedCounts(*map(int, row))) for row in counts]
    assert covered(ends, 0.02 * share) >= LEAST - CHANCE


def answers(truth: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    wrong = (truth + rng.integers(1, CLASSES, len(truth))) % CLASSES
    return np.where(rng.random(len(truth)) < share, truth, wrong)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_of_macro_f1(n: int, share: float) -> None:
    rng, truth = np.random.default_rng(0), np.arange(n) % CLASSES
    ends = []
    for _ in range(DRAWS // 2):
        confusion = np.zeros((CLASSES, CLASSES), dtype=int)
        np.add.at(confusion, (truth, answers(truth, share, rng)), 1)
        f1 = 2 * confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1))
        ends.append(macro_f1_interval(confusion, float(f1.mean())))
    assert covered(ends, share) >= LEAST - 1.4 * CHANCE


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("share", [0.5, 0.99, 1.0])
def test_of_what_means_over_classes_lost(n: int, share: float) -> None:
    """The second model loses a tenth of what the first gets right."""
    rng, truth = np.random.default_rng(0), np.arange(n) % CLASSES
    names, ends = tuple(str(i) for i in range(CLASSES)), {"macro_f1_drop": [], "tail_drop": []}
    for _ in range(DRAWS // 2):
        first = answers(truth, share, rng)
        lost = (first == truth) & (rng.random(n) < 0.1)
        pairs = Pairs(truth=truth, first=first, second=np.where(lost, (truth + 1) % CLASSES, first), classes=names)
        counts = np.arange(CLASSES)[::-1]
        common = {"what": "drop", "train_counts": counts, "stage": Stage.ARTIFACT, "where": "here", "resamples": 200}
        for row in class_mean_rows(pairs, **common):
            ends[row.name].append((row.low, row.high))
    assert covered(ends["tail_drop"], 0.1 * share) >= LEAST - 1.4 * CHANCE
    # Of shares: the second model gives each class 0.9 of what the first gives it rightly, and what others lose to it.
    assert covered(ends["macro_f1_drop"], 0.1 * share) >= LEAST - 1.4 * CHANCE


class Model(NamedTuple):
    """How confident a model is, and how often it is right where it is so confident."""

    confidence: Callable[[int, np.random.Generator], np.ndarray]
    accuracy: Callable[[np.ndarray], np.ndarray]


MODELS = {
    "calibrated": Model(lambda n, rng: rng.beta(5, 1, n), lambda c: c),
    "calibrated and sharp": Model(lambda n, rng: rng.beta(20, 0.3, n), lambda c: c),
    "calibrated, of one confidence": Model(lambda n, rng: np.full(n, 0.9), lambda c: c),
    "calibrated, evenly spread": Model(lambda n, rng: rng.uniform(0.1, 1, n), lambda c: c),
    "too sure": Model(lambda n, rng: rng.beta(5, 1, n), lambda c: c**2),
    "never right": Model(lambda n, rng: np.full(n, 0.999), lambda c: 0 * c),
    "right by half": Model(lambda n, rng: np.full(n, 0.999), lambda c: 0 * c + 0.5),
    "right in 99 %": Model(lambda n, rng: np.full(n, 0.9999), lambda c: 0 * c + 0.99),
    "always right": Model(lambda n, rng: np.full(n, 0.9), lambda c: 0 * c + 1),
}


def true_error(model: Model) -> float:
    confidence = model.confidence(200_000, np.random.default_rng(1))
    bins = np.ceil(15 * confidence).astype(int)
    return float(np.abs(np.bincount(bins, weights=model.accuracy(confidence) - confidence)).sum() / len(bins))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_of_the_calibration_error(n: int, model: Model) -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        confidence = model.confidence(n, rng)
        found.append(calibration_error(confidence, rng.random(n) < model.accuracy(confidence)))
    truth = true_error(model)
    # The truth is itself a mean of 200,000 draws, good to 0.001.
    ends = [(low - 1e-3, high + 1e-3) for _, (low, high) in found]
    assert covered(ends, truth) >= LEAST
    assert all(low <= value <= high for value, (low, high) in found)


def test_a_perfectly_calibrated_model_is_not_called_miscalibrated_by_chance() -> None:
    """The plain estimate has 0.04 here on average, of chance alone."""
    rng, model, found = np.random.default_rng(0), MODELS["calibrated"], []
    for _ in range(DRAWS):
        confidence = model.confidence(500, rng)
        found.append(calibration_error(confidence, rng.random(500) < confidence))
    assert np.mean([interval.low > 0 for _, interval in found]) <= 0.05
    assert np.mean([value for value, _ in found]) < 0.02


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("apart", "truth"), [(0.0, 0.5), (3.29, 0.99), (100.0, 1.0), (-100.0, 0.0)])
def test_of_the_area_under_a_roc_curve(n: int, apart: float, truth: float) -> None:
    rng = np.random.default_rng(0)
    ends = [ranked_area(rng.normal(apart, 1, n), rng.normal(0, 1, n)).interval for _ in range(DRAWS)]
    assert covered(ends, truth) >= LEAST - CHANCE
