"""Accuracy of a classifier over its test images: as a whole, per class, per group of classes, each with an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.errors import DataError
from edgec.core.facts import ReliabilityBin
from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import Interval, lowest_share_interval, score_interval, wilson_interval
from edgec.evaluate.reliability import calibration_error, reliability_bins

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "ClassGroups",
    "accuracy_measurements",
    "agreement_measurement",
    "calibration_measurement",
    "class_measurements",
    "confusion_counts",
    "group_classes",
    "macro_f1_interval",
    "reliability_of",
    "require_scores",
    "share_measurement",
]


def accuracy_measurements(
    logits: Float[np.ndarray, "n class"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    *,
    stage: Stage,
    where: str,
    train_counts: Int[np.ndarray, " class"] | None = None,
) -> list[Measurement]:
    """Every accuracy that a report holds of one model.

    `accuracy` (whole, then per class), `worst_class_accuracy`, `macro_f1`, `calibration_error` and, where the training
    counts differ, `head_accuracy`, `medium_accuracy` and `tail_accuracy` over the images of the group. Intervals are
    Wilson's, that of macro F1 follows from the delta method. A class without test images has no row, and cannot be the
    worst. The worst class's interval is that of the lowest true accuracy, whichever class has it.

    Args:
        logits: One row of scores per test image.
        labels: Positions in `classes`.
        classes: Names in the order of the scores.
        stage: The model that was run.
        where: The runtime and machine that ran it.
        train_counts: Training images per class; sorts them into head, medium and tail.

    Raises:
        DataError: Shapes disagree, there are no images, a score is not finite or a label names no class.
    """
    from sklearn.metrics import f1_score

    confusion = confusion_counts(logits, labels, classes)
    present = np.flatnonzero(confusion.sum(axis=1))
    macro_f1 = float(f1_score(labels, logits.argmax(axis=1), labels=present, average="macro"))
    common = {"stage": stage, "where": where}
    counted = class_measurements(confusion, classes, macro_f1=macro_f1, train_counts=train_counts, **common)
    return [*counted, calibration_measurement(logits, labels, **common)]


def class_measurements(
    confusion: Int[np.ndarray, "class class"],
    classes: Sequence[str],
    *,
    macro_f1: float,
    stage: Stage,
    where: str,
    train_counts: Int[np.ndarray, " class"] | None = None,
) -> list[Measurement]:
    """What `accuracy_measurements` finds, but for the `calibration_error`: it follows from the classes that were given.

    Args:
        confusion: Test images, at least one, by true class (rows) and given class (columns).
        classes: Names in the order of the scores.
        macro_f1: Mean F1 over the classes that have test images.
        stage: The model that was run.
        where: The runtime and machine that ran it.
        train_counts: Training images per class; sorts them into head, medium and tail.
    """
    right, images = confusion.diagonal(), confusion.sum(axis=1)
    row = _Rows(stage=stage, where=where)
    per_class = [row.share("accuracy", right[i], images[i], classes[i]) for i in map(int, np.flatnonzero(images))]
    worst = min(per_class, key=lambda measurement: measurement.value)
    return [
        row.share("accuracy", right.sum(), images.sum()),
        *per_class,
        row.worst(worst, right, images),
        row.macro_f1(macro_f1, confusion),
        *_group_rows(row, right, images, train_counts),
    ]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Makes the rows of one model."""

    stage: Stage
    where: str

    def share(self, name: str, right: int, n: int, label: str | None = None) -> Measurement:
        return self._row(name, value=float(right / n), n=n, interval=wilson_interval(int(right), int(n)), label=label)

    def macro_f1(self, value: float, confusion: Int[np.ndarray, "class class"]) -> Measurement:
        """Mean F1 over the classes that have test images."""
        return self._row("macro_f1", value=value, n=confusion.sum(), interval=macro_f1_interval(confusion, value))

    def worst(
        self, row: Measurement, right: Int[np.ndarray, " class"], images: Int[np.ndarray, " class"]
    ) -> Measurement:
        """The lowest class's row as that of all classes."""
        low, high = lowest_share_interval(right[images > 0], images[images > 0])
        return row.model_copy(update={"name": "worst_class_accuracy", "label": None, "low": low, "high": high})

    def calibration_error(self, logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"]) -> Measurement:
        value, interval = calibration_error(*_sureness(logits, labels))
        return self._row("calibration_error", value=value, n=len(labels), interval=interval)

    def _row(self, name: str, *, value: float, n: int, interval: Interval, label: str | None = None) -> Measurement:
        return Measurement(
            stage=self.stage,
            name=name,
            label=label,
            value=value,
            unit="share",
            n=int(n),
            low=interval.low,
            high=interval.high,
            where=self.where,
        )


def confusion_counts(
    logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> Int[np.ndarray, "class class"]:
    """Test images by true class (rows) and by the class with the highest score (columns).

    Raises:
        DataError: As `accuracy_measurements`.
    """
    require_scores(logits, labels, classes)
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, logits.argmax(axis=1), labels=np.arange(len(classes)))


def require_scores(logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> None:
    """Refuses scores and labels from which no accuracy follows.

    Raises:
        DataError: As `accuracy_measurements`.
    """
    expected = (len(labels), len(classes))
    if logits.shape != expected:
        raise DataError(f"logits {logits.shape} for {len(labels)} images: expected {expected}, a score per class")
    if not len(labels):
        raise DataError("no test images", hint="give at least one image per class")
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise DataError(
            f"{bad} of {len(labels)} images have scores that are NaN or infinite",
            hint="look for such values in the weights, and check the input's mean and std",
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"labels from {labels.min()} to {labels.max()}: expected 0 to {len(classes) - 1}")


def macro_f1_interval(confusion: Int[np.ndarray, "class class"], value: float) -> Interval:
    """Interval of macro F1 by the multivariate delta method, as wide as Wilson's where no two images differ.

    The counts are multinomial with shares p_ij. With s_i = p_i. + p_.i, F_i = 2 p_ii / s_i, and the gradient
    g_ij = (2 [i = j] / s_i - F_i / s_i - F_j / s_j) / K, the variance is (Σ p g² - (Σ p g)²) / n. A mean over K classes
    of n_i images is worth one of K² / Σ 1/n_i images: a class with few images decides how much can be known.

    Reference: Takahashi et al., Applied Intelligence 52 (2022), 4961.
    """
    n, images = confusion.sum(), confusion.sum(axis=1)
    shares = confusion / n
    present = images > 0
    totals = shares.sum(axis=0) + shares.sum(axis=1)
    scale = np.divide(1, totals, out=np.zeros_like(totals), where=present)
    slope = 2 * shares.diagonal() * scale**2
    gradient = (2 * np.diag(scale) - slope[:, None] - slope[None, :]) / present.sum()
    variance = ((shares * gradient**2).sum() - (shares * gradient).sum() ** 2) / n
    return score_interval(value, float(variance), float(present.sum() ** 2 / (1 / images[present]).sum()))


@dataclass(frozen=True, kw_only=True)
class ClassGroups:
    """Positions of the classes with the most, middling and fewest training images."""

    head: Int[np.ndarray, " head"]
    medium: Int[np.ndarray, " medium"]
    tail: Int[np.ndarray, " tail"]


def group_classes(train_counts: Int[np.ndarray, " class"]) -> ClassGroups:
    """Classes by falling count: 33 % head, 34 % medium, 33 % tail (docs/methods.md §3); equal counts keep their order.

    Head and tail are rounded to whole classes, at least one each when there are two or more.
    """
    order = np.argsort(-np.asarray(train_counts), kind="stable")
    size = min(max(1, round(0.33 * len(order))), len(order) // 2)
    return ClassGroups(head=order[:size], medium=order[size : len(order) - size], tail=order[len(order) - size :])


def _group_rows(
    row: _Rows,
    right: Int[np.ndarray, " class"],
    images: Int[np.ndarray, " class"],
    train_counts: Int[np.ndarray, " class"] | None,
) -> Iterator[Measurement]:
    """Rows of the groups that have test images; none where all classes are equally frequent."""
    if train_counts is None or np.ptp(train_counts) == 0:
        return
    for name, members in vars(group_classes(train_counts)).items():
        if n := images[members].sum():
            yield row.share(f"{name}_accuracy", right[members].sum(), n)


def calibration_measurement(
    logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"], *, stage: Stage, where: str
) -> Measurement:
    """`calibration_error` alone, as `accuracy_measurements` has it."""
    return _Rows(stage=stage, where=where).calibration_error(logits, labels)


def reliability_of(logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"]) -> tuple[ReliabilityBin, ...]:
    """How often a model's answers are right, by how sure it was of them."""
    return reliability_bins(*_sureness(logits, labels))


def _sureness(
    logits: Float[np.ndarray, "n class"], labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The score of each answer, and whether it is right."""
    from edgec.runtime.session import softmax

    scores = softmax(logits.astype(np.float64))
    return scores.max(axis=1), scores.argmax(axis=1) == labels


def agreement_measurement(
    logits: Float[np.ndarray, "n class"], teacher_logits: Float[np.ndarray, "n class"], *, stage: Stage, where: str
) -> Measurement:
    """`teacher_agreement`: the share of images to which a model gives the teacher's class, right or wrong.

    Raises:
        DataError: The models were not run on the same images, or on none.
    """
    if logits.shape != teacher_logits.shape or not len(logits):
        raise DataError(f"logits {logits.shape} against the teacher's {teacher_logits.shape}: expected equal shapes")
    same = int((logits.argmax(axis=1) == teacher_logits.argmax(axis=1)).sum())
    return share_measurement("teacher_agreement", same, len(logits), stage=stage, where=where)


def share_measurement(name: str, count: int, n: int, *, stage: Stage, where: str) -> Measurement:
    """A share of all images, with Wilson's interval."""
    return _Rows(stage=stage, where=where).share(name, count, n)
