"""Accuracies against a slow reference that counts image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.evaluate.accuracy import (
    accuracy_measurements,
    agreement_measurement,
    confusion_counts,
    group_classes,
)
from edgec.evaluate.intervals import wilson_interval

CLASSES = ("cat", "dog", "eel", "fox", "gnu")


def scores(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right about two times in three, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(n, 5)).astype(np.float32)
    logits[np.arange(n), labels] += 1.8
    return logits, labels


def measure(logits: np.ndarray, labels: np.ndarray, counts: Sequence[int] | None = None) -> list[Measurement]:
    train_counts = None if counts is None else np.array(counts)
    return accuracy_measurements(logits, labels, CLASSES, stage=Stage.ARTIFACT, where="here", train_counts=train_counts)


def value(rows: list[Measurement], name: str, label: str | None = None) -> Measurement:
    (found,) = [row for row in rows if (row.name, row.label) == (name, label)]
    return found


def slow_counts(logits: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    table = [[0] * 5 for _ in range(5)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        table[label][row.index(max(row))] += 1
    return table


def slow_macro_f1(table: list[list[int]]) -> float:
    present = [i for i in range(5) if sum(table[i])]
    total = 0.0
    for i in present:
        precision_of = sum(table[j][i] for j in range(5))
        precision = table[i][i] / precision_of if precision_of else 0.0
        recall = table[i][i] / sum(table[i])
        total += 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return total / len(present)


def test_rows_agree_with_counting_by_hand() -> None:
    logits, labels = scores(300)
    rows, table = measure(logits, labels), slow_counts(logits, labels)
    assert confusion_counts(logits, labels, CLASSES).tolist() == table
    assert value(rows, "accuracy").value == pytest.approx(sum(table[i][i] for i in range(5)) / 300)
    for i, label in enumerate(CLASSES):
        row = value(rows, "accuracy", label)
        assert (row.value, row.n) == (pytest.approx(table[i][i] / sum(table[i])), sum(table[i]))
        assert (row.low, row.high) == wilson_interval(table[i][i], sum(table[i]))
    assert value(rows, "macro_f1").value == pytest.approx(slow_macro_f1(table))


def test_every_row_says_what_it_is() -> None:
    rows = measure(*scores(60), counts=(9, 7, 5, 3, 1))
    assert {row.stage for row in rows} == {Stage.ARTIFACT}
    assert {row.unit for row in rows} == {"share"}
    assert {row.kind for row in rows} == {Kind.MEASURED}
    assert {row.where for row in rows} == {"here"}
    assert all(row.low is not None and row.low <= row.value <= row.high for row in rows)


def test_the_worst_class_is_that_with_the_lowest_accuracy_and_has_no_label() -> None:
    rows = measure(*scores(300))
    lowest = min((row for row in rows if row.label), key=lambda row: row.value)
    worst = value(rows, "worst_class_accuracy")
    ends = {"low": worst.low, "high": worst.high}
    assert worst == lowest.model_copy(update={"name": "worst_class_accuracy", "label": None, **ends})


def test_groups_pool_the_images_of_their_classes() -> None:
    logits, labels = scores(300)
    # Falling counts are dog, gnu | cat | eel, fox: a third of five classes rounds to two.
    rows = measure(logits, labels, counts=(5, 50, 4, 3, 40))
    right = logits.argmax(axis=1) == labels
    for name, members in (("head", [1, 4]), ("medium", [0]), ("tail", [2, 3])):
        inside = np.isin(labels, members)
        row = value(rows, f"{name}_accuracy")
        assert (row.value, row.n) == (pytest.approx(right[inside].mean()), inside.sum())


@pytest.mark.parametrize(("classes", "sizes"), [(2, (1, 0, 1)), (3, (1, 1, 1)), (10, (3, 4, 3)), (100, (33, 34, 33))])
def test_groups_take_33_34_33_percent_of_the_classes(classes: int, sizes: tuple[int, int, int]) -> None:
    groups = group_classes(np.arange(classes))
    assert (len(groups.head), len(groups.medium), len(groups.tail)) == sizes
    assert np.concatenate([groups.head, groups.medium, groups.tail]).tolist() == list(range(classes))[::-1]


def test_balanced_training_counts_have_no_head_and_no_tail() -> None:
    names = {row.name for row in measure(*scores(60), counts=(5, 5, 5, 5, 5))}
    assert names == {"accuracy", "worst_class_accuracy", "macro_f1", "calibration_error"}


def test_a_class_without_test_images_has_no_row_and_is_not_the_worst() -> None:
    logits, labels = scores(200)
    kept = labels != 3
    rows = measure(logits[kept], labels[kept])
    assert [row.label for row in rows if row.label] == ["cat", "dog", "eel", "gnu"]
    assert value(rows, "macro_f1").value == pytest.approx(slow_macro_f1(slow_counts(logits[kept], labels[kept])))


def test_the_interval_of_macro_f1_is_that_of_the_bootstrap() -> None:
    logits, labels = scores(2000)
    row = value(measure(logits, labels), "macro_f1")
    table = np.array(slow_counts(logits, labels))
    draws = np.random.default_rng(3).multinomial(2000, table.ravel() / 2000, size=2000).reshape(-1, 5, 5)
    spread = np.std([slow_macro_f1(draw.tolist()) for draw in draws])
    # 2,000 resamples give a standard deviation to 1.6 %; the delta method is off by a term in 1 / n.
    assert row.high - row.low == pytest.approx(2 * 1.96 * spread, rel=0.06)


@pytest.mark.parametrize(("images", "share"), [(1, 0.5655), (3, 0.7961), (200, 0.99617)])
def test_a_perfect_models_macro_f1_is_as_certain_as_its_accuracy(images: int, share: float) -> None:
    """Of five classes with as many images each: Wilson's interval of all of them right."""
    labels = np.arange(5).repeat(images)
    row = value(measure(np.eye(5, dtype=np.float32)[labels], labels), "macro_f1")
    assert (row.value, row.high) == (1.0, 1.0)
    assert row.low == pytest.approx(share, abs=1e-3)
    assert row.low == pytest.approx(wilson_interval(len(labels), len(labels)).low)


def test_a_class_of_one_image_leaves_macro_f1_uncertain_however_many_the_others_have() -> None:
    labels = np.repeat(np.arange(5), (400, 400, 400, 400, 1))
    row = value(measure(np.eye(5, dtype=np.float32)[labels], labels), "macro_f1")
    # That class is a fifth of the mean: where it is never right, macro F1 is 0.8, and one image may not show it.
    assert row.low < 0.9


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    mine, teachers = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 2, 2, 1]]
    row = agreement_measurement(mine, teachers, stage=Stage.COMPRESSED, where="here")
    assert (row.name, row.value, row.n) == ("teacher_agreement", 0.5, 4)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 4)), [0, 1], "logits (2, 4) for 2 images: expected (2, 5), a score per class"),
        (np.zeros((0, 5)), [], "no test images"),
        (np.full((2, 5), np.nan), [0, 1], "2 of 2 images have scores that are NaN or infinite"),
        (np.zeros((2, 5)), [0, 5], "labels from 0 to 5: expected 0 to 4"),
    ],
)
def test_scores_from_which_no_accuracy_follows_are_refused(logits: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        measure(logits.astype(np.float32), np.array(labels, dtype=np.int64))
    assert str(caught.value) == message


def test_agreement_with_other_images_is_refused() -> None:
    with pytest.raises(DataError, match="expected equal shapes"):
        agreement_measurement(np.zeros((2, 3)), np.zeros((3, 3)), stage=Stage.ARTIFACT, where="here")
