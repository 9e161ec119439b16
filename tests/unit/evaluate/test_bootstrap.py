"""Losses of means over classes: against scikit-learn's F1, against scipy's bootstrap, against known models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.bootstrap import class_mean_rows, resampled_losses
from edgec.evaluate.paired import Pairs

CLASSES = ("cat", "dog", "eel", "fox")
COUNTS = np.array([40, 30, 20, 10])


def pairs(per_class: tuple[int, ...] = (50, 40, 30, 20), *, seed: int = 0, worse: float = 0.15) -> Pairs:
    """Two models that agree on most images; the second is right less often."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(per_class)), per_class)
    wrong = (truth + rng.integers(1, 4, len(truth))) % 4
    first = np.where(rng.random(len(truth)) < 0.85, truth, wrong)
    return Pairs(
        truth=truth, first=first, second=np.where(rng.random(len(truth)) < worse, wrong, first), classes=CLASSES
    )


def rows(given: Pairs, **more: object) -> dict[str, Measurement]:
    common = {"what": "drop", "train_counts": COUNTS, "stage": Stage.ARTIFACT, "where": "here"} | more
    return {row.name: row for row in class_mean_rows(given, **common)}


def macro_f1(truth: np.ndarray, given: np.ndarray) -> float:
    return float(f1_score(truth, given, labels=np.unique(truth), average="macro"))


def test_values_are_what_the_images_say() -> None:
    given = pairs()
    found = rows(given)
    assert found["macro_f1_drop"].value == pytest.approx(
        macro_f1(given.truth, given.first) - macro_f1(given.truth, given.second), abs=1e-12
    )
    tail = given.truth == 3
    expected = (given.first[tail] == 3).mean() - (given.second[tail] == 3).mean()
    assert found["tail_drop"].value == pytest.approx(expected, abs=1e-12)
    assert (found["macro_f1_drop"].n, found["tail_drop"].n) == (140, 20)


def test_a_mean_over_classes_does_not_ask_how_many_images_each_has() -> None:
    given = pairs((60, 6, 50, 5))
    found = rows(given, train_counts=np.array([9, 2, 9, 1]))["tail_drop"].value
    # A third of four classes rounds to one, the last.
    assert found == pytest.approx((given.first[-5:] == 3).mean() - (given.second[-5:] == 3).mean())


def test_resamples_are_those_of_scipys_bootstrap_class_by_class() -> None:
    given = pairs()

    def drop(*images: np.ndarray) -> float:
        chosen = np.concatenate(images)
        truth = given.truth[chosen]
        return macro_f1(truth, given.first[chosen]) - macro_f1(truth, given.second[chosen])

    strata = [np.flatnonzero(given.truth == label) for label in range(4)]
    theirs = bootstrap(
        strata, drop, vectorized=False, method="percentile", n_resamples=600, rng=np.random.default_rng(1)
    )
    row = rows(given)["macro_f1_drop"]
    drawn = resampled_losses(given, resamples=2000, generator=np.random.default_rng(2)).macro_f1
    # A standard error of 600 draws is known to 3 %, an end of an interval to 0.11 standard errors.
    assert drawn.std() == pytest.approx(theirs.standard_error, rel=0.12)
    low, high = theirs.confidence_interval
    assert (row.low, row.high) == pytest.approx((low, high), abs=0.45 * theirs.standard_error)


def test_the_true_loss_lies_in_the_interval_as_often_as_it_says() -> None:
    """Models whose answers are drawn from known shares: 95 % of 200 intervals are 190 ± 9 (three deviations)."""
    shares = np.random.default_rng(0).dirichlet(np.ones(16) * 0.3, size=4)
    shares += np.eye(4)[:, :, None].repeat(4, axis=2).reshape(4, 16) * 0.2
    shares /= shares.sum(axis=1, keepdims=True)
    joint = shares.reshape(4, 4, 4)
    true = _true_macro_f1(joint.sum(axis=2)) - _true_macro_f1(joint.sum(axis=1))
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        drawn = np.concatenate([rng.choice(16, size=80, p=row) for row in shares])
        given = Pairs(truth=np.repeat(np.arange(4), 80), first=drawn // 4, second=drawn % 4, classes=CLASSES)
        row = rows(given, resamples=400)["macro_f1_drop"]
        covered += row.low <= true <= row.high
    assert 180 <= covered <= 200


def _true_macro_f1(answers: np.ndarray) -> float:
    """Of shares by true class (rows) and given class, classes equally frequent."""
    return float(np.mean(2 * answers.diagonal() / (1 + answers.sum(axis=0))))


def test_the_order_of_the_images_does_not_matter_and_nothing_is_random() -> None:
    given, order = pairs(), np.random.default_rng(5).permutation(140)
    shuffled = Pairs(
        truth=given.truth[order], first=given.first[order], second=given.second[order], classes=given.classes
    )
    assert rows(given) == rows(given) == rows(shuffled)


def test_models_that_answer_alike_lose_nothing_and_few_images_do_not_prove_it() -> None:
    found = rows(pairs((3, 3, 2, 1), worse=0.0))
    for row in found.values():
        assert row.value == 0
        assert row.low < -0.1 < 0.1 < row.high


def test_an_answer_that_is_no_class_of_ours_is_wrong() -> None:
    given = pairs()
    strange = np.where(given.first == given.truth, given.first, -1)
    row = rows(Pairs(truth=given.truth, first=strange, second=given.truth, classes=CLASSES))["macro_f1_drop"]
    assert row.value == pytest.approx(macro_f1(given.truth, strange) - 1, abs=1e-12)


@pytest.mark.parametrize("counts", [None, np.array([5, 5, 5, 5])])
def test_without_rare_classes_there_is_no_tail(counts: np.ndarray | None) -> None:
    assert set(rows(pairs(), train_counts=counts)) == {"macro_f1_drop"}


def test_a_tail_without_images_has_no_row() -> None:
    assert set(rows(pairs((50, 40, 30)))) == {"macro_f1_drop"}
