"""Differences in pairs against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import PairedCounts, paired_interval, paired_p_value
from edgec.evaluate.paired import drop_measurements

CLASSES = ("cat", "dog", "eel")
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
TEACHER = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 1, 1, 1, 2]]
MODEL = np.eye(3, dtype=np.float32)[[0, 1, 1, 0, 1, 1, 1, 1, 1, 1]]


def rows() -> dict[tuple[str, str | None], Measurement]:
    found = drop_measurements(MODEL, TEACHER, LABELS, CLASSES, stage=Stage.ARTIFACT, where="here")
    return {(row.name, row.label): row for row in found}


def test_a_drop_is_what_the_teacher_had_more() -> None:
    found = rows()
    # cat: both right once, the teacher alone twice, the model alone once; dog: 5 both, the model alone once.
    for label, counts in (("cat", (1, 2, 1, 0)), ("dog", (5, 0, 1, 0)), (None, (6, 2, 2, 0))):
        pairs = PairedCounts(*counts)
        drop, test = found["accuracy_drop", label], found["accuracy_drop_p", label]
        assert drop.value == (pairs.first - pairs.second) / sum(pairs)
        assert (drop.low, drop.high) == paired_interval(pairs)
        assert (drop.n, drop.unit) == (sum(pairs), "share")
        assert (test.value, test.unit, test.low, test.high) == (paired_p_value(pairs), "probability", None, None)


def test_a_class_without_test_images_has_no_row() -> None:
    assert {label for _, label in rows()} == {None, "cat", "dog"}


def test_a_model_loses_nothing_against_itself() -> None:
    found = drop_measurements(TEACHER, TEACHER, LABELS, CLASSES, stage=Stage.ARTIFACT, where="here")
    assert {row.value for row in found if row.name == "accuracy_drop"} == {0.0}
    assert {row.value for row in found if row.name == "accuracy_drop_p"} == {1.0}


def test_a_teacher_with_scores_that_are_nan_is_refused() -> None:
    with pytest.raises(DataError, match="10 of 10 images have scores that are NaN"):
        drop_measurements(MODEL, TEACHER * np.nan, LABELS, CLASSES, stage=Stage.ARTIFACT, where="here")
