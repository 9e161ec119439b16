"""The reliability diagram: marks where confidence and accuracy put them, and no section without them."""

from __future__ import annotations

import pytest

from edgec.core.facts import ReliabilityBin
from edgec.core.measurement import Stage
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.report import Report
from edgec.render.page import render_report
from edgec.render.reliability_plot import reliability_plot

BINS = (
    ReliabilityBin(n=20, confidence=0.3, accuracy=0.25),
    ReliabilityBin(n=80, confidence=0.9, accuracy=0.75),
)


def with_bins(report: Report, **bins: tuple[ReliabilityBin, ...]) -> Report:
    return report.model_copy(update={"reliability": {Stage(name): each for name, each in bins.items()}})


def test_a_mark_lies_at_its_confidence_and_accuracy(ten_classes: Report) -> None:
    plot = reliability_plot(with_bins(ten_classes, artifact=BINS))
    assert plot is not None
    low, high = plot.last.marks
    assert (low.right, low.down, low.bar) == (30.0, 75.0, 25.0)
    assert (high.right, high.down, high.bar) == (90.0, 25.0, 100.0)
    interval = wilson_interval(60, 80)
    assert (high.low, high.high) == pytest.approx((100 * (1 - interval.low), 100 * (1 - interval.high)), abs=0.01)
    assert high.text == "confidence 90.0 %: 75.0 % of 80 images right"


def test_the_teacher_comes_first_and_other_stages_not_at_all(ten_classes: Report) -> None:
    plot = reliability_plot(with_bins(ten_classes, artifact=BINS, compressed=BINS, teacher=BINS))
    assert plot is not None
    assert plot.stages == (Stage.TEACHER, Stage.ARTIFACT)


def test_the_page_draws_and_lists_the_groups(ten_classes: Report) -> None:
    page = render_report(with_bins(ten_classes, artifact=BINS), gates=None)
    section = page[page.index('<section id="confidence"') :]
    section = section[: section.index("</section>")]
    assert '<svg x="90.0%" y="25.0%"' in section
    assert '<th scope="row">90.0 %</th><td>80</td><td>75.0 %' in section
    assert "Artifact: confidence 30.0 %: 25.0 % of 20 images right; confidence 90.0 %: 75.0 % of 80" in section
    assert '<a href="#confidence">' in page


def test_without_confidences_there_is_no_section(ten_classes: Report) -> None:
    page = render_report(with_bins(ten_classes), gates=None)
    assert 'id="confidence"' not in page
    assert "#confidence" not in page
