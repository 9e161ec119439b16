"""Rows of a report, counted again from `predictions.npz`: what follows from it, nobody has to believe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.accuracy import class_measurements, share_measurement
from edgec.evaluate.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

__all__ = ["follows", "recounted"]

_WHERE = "predictions.npz"
_OF_ALL = frozenset({"accuracy"})
_OF_ARTIFACT = _OF_ALL | {
    *("worst_class_accuracy", "macro_f1", "head_accuracy", "medium_accuracy", "tail_accuracy"),
    *("teacher_agreement", "accuracy_drop"),
}


def follows(row: Measurement, predictions: Predictions) -> bool:
    """Whether `recounted` gives this row, if there is anything to count: of the artifact all that gates judge."""
    names = _OF_ARTIFACT if row.stage is Stage.ARTIFACT else _OF_ALL
    return row.stage in predictions.given and row.name in names


def recounted(predictions: Predictions, train_counts: Int[np.ndarray, " class"] | None) -> Iterator[Measurement]:
    """What follows from the classes that were given, but for two intervals: a drop's, and of what does not ship.

    Args:
        predictions: Of the artifact, the teacher and others.
        train_counts: Training images per class, where they are known.
    """
    if not len(predictions.truth):
        return
    for stage, given in predictions.given.items():
        if stage is not Stage.ARTIFACT:
            yield from _shares(predictions, given == predictions.truth, stage=stage)
    yield from _of_artifact(predictions, train_counts)


def _shares(predictions: Predictions, right: Bool[np.ndarray, " n"], *, stage: Stage) -> Iterator[Measurement]:
    """The accuracy, and that of each class that has images."""
    common = {"stage": stage, "name": "accuracy", "unit": "share", "where": _WHERE}
    yield Measurement(value=float(right.mean()), n=len(right), **common)
    images = np.bincount(predictions.truth, minlength=len(predictions.classes))
    hits = np.bincount(predictions.truth[right], minlength=len(predictions.classes))
    for label in map(int, np.flatnonzero(images)):
        share = float(hits[label] / images[label])
        yield Measurement(label=predictions.classes[label], value=share, n=int(images[label]), **common)


def _of_artifact(predictions: Predictions, train_counts: Int[np.ndarray, " class"] | None) -> Iterator[Measurement]:
    truth, given, teacher = predictions.truth, predictions.given[Stage.ARTIFACT], predictions.given[Stage.TEACHER]
    size = len(predictions.classes)
    confusion = np.bincount(truth.astype(np.int64) * size + given, minlength=size * size).reshape(size, size)
    common = {"stage": Stage.ARTIFACT, "where": _WHERE}
    yield from class_measurements(
        confusion, predictions.classes, macro_f1=_macro_f1(confusion), train_counts=train_counts, **common
    )
    yield share_measurement("teacher_agreement", int((given == teacher).sum()), len(truth), **common)
    for label, counts in predictions.against_teacher().items():
        lost = (counts.first - counts.second) / sum(counts)
        yield Measurement(name="accuracy_drop", label=label, value=lost, unit="share", n=sum(counts), **common)


def _macro_f1(confusion: Int[np.ndarray, "class class"]) -> float:
    """scikit-learn's, without it: a machine that checks bundles need not have it."""
    images = confusion.sum(axis=1)
    present = images > 0
    f1 = 2 * confusion.diagonal()[present] / (images + confusion.sum(axis=0))[present]
    return float(f1.mean())
