"""The plot of latencies: one lane per model and place, on an axis that holds them all."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgec.core.facts import LatencyCurve
from edgec.core.measurement import Kind, Stage
from edgec.evaluate.report import Report
from edgec.render.latency_plot import latency_plot

WHERE = "AMD EPYC 7B13, 2 cores, x86_64"


def test_measured_and_predicted_have_a_lane_each(ten_classes: Report) -> None:
    plot = latency_plot(ten_classes)
    assert plot is not None
    assert [(lane.kind, len(lane.marks)) for lane in plot.lanes] == [(Kind.PREDICTED, 1), (Kind.MEASURED, 3)]
    assert plot.lanes[1].text == f"Artifact, measured, {WHERE}: p50 0.339 ms; p90 0.360 ms; p99 0.512 ms"


def test_marks_lie_on_the_axis_in_their_order(ten_classes: Report) -> None:
    plot = latency_plot(ten_classes)
    assert plot is not None
    for mark in (mark for lane in plot.lanes for mark in lane.marks):
        assert 0 <= mark.low <= mark.place <= mark.high <= 100
    places = [mark.place for mark in plot.lanes[1].marks]
    assert places == sorted(places)


def test_hills_hold_the_shares_of_the_runs(ten_classes: Report) -> None:
    # Half of the runs around 0.3 ms, half around 0.45 ms: two hills of the same area.
    runs = np.sort(np.concatenate([np.linspace(0.299, 0.301, 500), np.linspace(0.449, 0.451, 500)]))
    quantiles = tuple(np.quantile(runs, np.linspace(0, 1, 101), method="inverted_cdf").tolist())
    curve = LatencyCurve(stage=Stage.ARTIFACT, where=WHERE, n=1000, quantiles_ms=quantiles)
    plot = latency_plot(ten_classes.model_copy(update={"curves": (curve,)}))
    assert plot is not None
    heights = [26 - float(y) for y in re.findall(r"V([0-9.]+)h", plot.lanes[1].hills)]
    middle = len(heights) * plot.lanes[1].marks[1].place / 100
    left = sum(heights[: int(middle)])
    assert left == pytest.approx(sum(heights) / 2, rel=0.02)
    assert plot.lanes[0].hills == ""


def test_a_report_without_latency_has_no_plot(hundred_classes: Report) -> None:
    assert latency_plot(hundred_classes) is None
