"""Pictures of many classes: the paths hold what the report says, no more and no less."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgec.core.measurement import Stage
from edgec.evaluate.report import Report
from edgec.render import view
from edgec.render.overview import bar_paths, matrix_paths, overview_of


def test_every_class_has_a_point_at_its_accuracy(hundred_classes: Report) -> None:
    rows = view.class_rows(hundred_classes)
    axis = view.axis_of(rows)
    found = overview_of(rows, axis, view.stages_of(hundred_classes))
    heights = [float(y) for y in re.findall(r"M[0-9.]+ ([0-9.]+)h0", found.dots)]
    accuracy = hundred_classes.by_class(Stage.ARTIFACT, "accuracy")
    values = np.array([accuracy[row.label].value for row in rows])
    # Tenths of a hundredth of the axis's height.
    assert heights == pytest.approx(100 * (1 - values) / (1 - axis.start), abs=0.06)


def test_a_line_ends_at_the_mean_of_the_rarest_classes(hundred_classes: Report) -> None:
    rows = view.class_rows(hundred_classes)
    axis = view.axis_of(rows)
    found = overview_of(rows, axis, (Stage.TEACHER,))
    marks = [row.mark(Stage.TEACHER) for row in rows[-1 - found.window // 2 :]]
    mean = np.mean([mark.value for mark in marks if mark])
    assert found.series[0].end == found.height(float(mean))


def test_every_confusion_has_a_square(hundred_classes: Report) -> None:
    order = view.class_order(hundred_classes)
    matrix = np.array(hundred_classes.confusion[Stage.ARTIFACT])[np.ix_(order, order)]
    paths = matrix_paths(view.confusion_rows(hundred_classes, Stage.ARTIFACT))
    squares = {
        (int(y), int(x), right) for right, _, path in paths for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path)
    }
    assert squares == {(i, j, i == j) for i, j in np.argwhere(matrix).tolist()}


def test_bars_stand_on_each_other() -> None:
    few, ood = bar_paths([view.Bar(label="a", few=3, ood=1), view.Bar(label="b", few=0, ood=2)])
    assert few == "M0.0 100v-75.0h500.0v75.0zM500.0 100v-0.0h500.0v0.0z"
    assert ood == "M0.0 25.0v-25.0h500.0v25.0zM500.0 100.0v-50.0h500.0v50.0z"


def test_grown_confusions_are_counted_against_the_teacher(ten_classes: Report) -> None:
    artifact, teacher = (np.array(ten_classes.confusion[stage]) for stage in (Stage.ARTIFACT, Stage.TEACHER))
    more = artifact - teacher
    np.fill_diagonal(more, 0)
    found = view.grown_confusions(ten_classes, Stage.ARTIFACT, most=5)
    assert [confusion.more for confusion in found] == sorted(more[more > 0].tolist(), reverse=True)[:5]
    first = [ten_classes.labels.index(name) for name in (found[0].truth, found[0].given)]
    assert (found[0].count, found[0].before) == (artifact[tuple(first)], teacher[tuple(first)])
