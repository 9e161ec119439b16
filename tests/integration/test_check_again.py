"""`edgec check --test` on the images of the build gives the build's numbers, float16 beside int8 included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.facts import DataFacts
from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Silent
from edgec.data import load_digits_splits
from edgec.evaluate.loss import Loss
from edgec.graph.float16 import ROUNDED
from edgec.pipeline.check import Evidence, evaluate_again, read_evidence


@pytest.fixture(scope="module")
def evidence(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Evidence]:
    """Of the build, and of the run after it on the same images."""
    test = load_digits_splits()[1]
    path = tmp_path_factory.mktemp("again") / "test.npz"
    np.savez(path, images=test.decoded(), labels=test.labels, names=np.array(test.classes))
    built = read_evidence(digits.bundle)
    return built, evaluate_again(digits.bundle, built, path, progress=Silent())


def rows(evidence: Evidence) -> list[Measurement]:
    names = ("accuracy", "worst_class_accuracy", "macro_f1", "calibration_error", "tail_accuracy")
    return [row for row in evidence.report.measurements if row.stage is Stage.ARTIFACT and row.name in names]


def test_a_jetsons_graph_computes_in_float16(digits: Any) -> None:
    import onnx

    graph = onnx.load(digits.bundle / "model.onnx").graph
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)


def test_every_number_is_the_builds_to_the_last_bit(evidence: tuple[Evidence, Evidence]) -> None:
    built, again = evidence
    assert rows(built) == rows(again)
    assert all(row.where.startswith(ROUNDED) for row in rows(again))
    np.testing.assert_array_equal(built.predictions.images, again.predictions.images)
    np.testing.assert_array_equal(built.predictions.given[Stage.ARTIFACT], again.predictions.given[Stage.ARTIFACT])


def test_speed_and_size_stay_and_drops_go(evidence: tuple[Evidence, Evidence]) -> None:
    built, again = evidence
    for name in ("latency_ms_p95", "size_bytes"):
        found = built.report.find(Stage.ARTIFACT, name)
        assert found is not None
        assert again.report.find(Stage.ARTIFACT, name) == found
    assert built.report.find(Stage.ARTIFACT, "macro_f1_drop") is not None
    assert again.report.find(Stage.ARTIFACT, "macro_f1_drop") is None


def test_nothing_that_the_build_said_of_its_own_test_images_is_said_of_others(
    digits: Any, evidence: tuple[Evidence, Evidence], tmp_path: Path
) -> None:
    built, test = evidence[0], load_digits_splits()[1].take(np.arange(100))
    np.savez(tmp_path / "few.npz", images=test.decoded(), labels=test.labels, names=np.array(test.classes))
    lost = Loss(scheme="int8", before=0.9, after=0.5, low=0.3, high=0.5, proven=True, n=790)
    odd = Measurement(stage=Stage.ARTIFACT, name="of_test_images", value=3, unit="nat", n=790, where="here")
    told = built.report.model_copy(update={"loss": lost, "measurements": (*built.report.measurements, odd)})
    again = evaluate_again(digits.bundle, replace(built, report=told), tmp_path / "few.npz", progress=Silent()).report
    assert (again.loss, again.notes, again.data) == (None, (), DataFacts())
    of_images = [row for row in again.measurements if row.machine is None and row.name != "size_bytes"]
    assert all(row.n <= 100 for row in of_images)
    assert np.sum(again.confusion[Stage.ARTIFACT]) == 100
    assert again.confusion.keys() == {Stage.ARTIFACT}
