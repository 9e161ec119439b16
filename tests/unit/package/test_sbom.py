"""The bill of materials: valid CycloneDX, the report's figures by class, and the same bytes for the same bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgec.core.measurement import Kind, Measurement, Stage
from edgec.evaluate.report import Report
from edgec.package import Description, FileEntry, bill_of_materials

REPORT = Path(__file__).parents[2] / "golden" / "report.json"
MODEL = FileEntry.of(b"model")


@pytest.fixture
def measurements() -> tuple[Measurement, ...]:
    return Report.model_validate_json(REPORT.read_bytes()).measurements


@pytest.fixture
def described(description: Description) -> Description:
    splits = [
        {"name": "train", "n": 6, "counts": [3, 2, 1], "digest": "a" * 64},
        {"name": "ood", "n": 9, "counts": None, "digest": "b" * 64},
    ]
    tools = {"python": "3.10.0", "edgec": "0.1.0", "onnxruntime": "1.23.0", "torch": "2.9.0+cpu"}
    return description.model_copy(update={"release": 4, "data": {"splits": splits}, "tools": tools})


@pytest.fixture
def bill(described: Description, measurements: tuple[Measurement, ...]) -> dict[str, Any]:
    return json.loads(bill_of_materials(described, MODEL, measurements))


def test_it_is_valid_cyclonedx(described: Description, measurements: tuple[Measurement, ...]) -> None:
    """The reference: the standard's own schema, with nothing besides."""
    validation = pytest.importorskip("cyclonedx.validation.json", reason="needs cyclonedx-python-lib")
    from cyclonedx.schema import SchemaVersion

    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    for given in (measurements, ()):
        bill = bill_of_materials(described, MODEL, given).decode()
        assert validator.validate_str(bill) is None
    assert validator.validate_str(bill.replace('"machine-learning-model"', '"model"')) is not None


def test_the_component_is_the_model_that_ships(bill: dict[str, Any]) -> None:
    model = bill["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"model").hexdigest()}]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "linear-host", "4")


def test_accuracies_of_all_and_of_each_class_stand_with_their_intervals(
    bill: dict[str, Any], measurements: tuple[Measurement, ...]
) -> None:
    shown = {
        (metric["type"], metric["slice"]): (float(metric["value"]), metric.get("confidenceInterval"))
        for metric in bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    ours = [m for m in measurements if m.stage is Stage.ARTIFACT and m.name == "accuracy"]
    assert {m.label for m in ours} == {None, "cat", "dog", "Käfer"}
    for m in ours:
        value, interval = shown["accuracy", "all classes" if m.label is None else f"class {m.label}"]
        assert value == m.value
        assert interval == {"lowerBound": str(m.low), "upperBound": str(m.high)}


def test_figures_of_other_models_and_predictions_stay_out(described: Description) -> None:
    accuracy: dict[str, Any] = {"name": "accuracy", "unit": "share", "n": 9, "where": "here"}
    given = [
        Measurement(stage=Stage.TEACHER, value=0.1, **accuracy),
        Measurement(stage=Stage.ARTIFACT, value=0.2, kind=Kind.PREDICTED, **accuracy),
        Measurement(stage=Stage.ARTIFACT, value=3, name="latency_ms_p50", unit="ms", n=9, where="here"),
        Measurement(stage=Stage.ARTIFACT, value=0.9, **accuracy),
    ]
    bill = json.loads(bill_of_materials(described, MODEL, given))
    card = bill["metadata"]["component"]["modelCard"]
    expected = [{"type": "accuracy", "value": "0.9", "slice": "all classes"}]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == expected
    assert card["properties"] == [{"name": "edgec:images: all classes", "value": "9"}]


def test_the_data_sets_tell_their_counts_by_class(bill: dict[str, Any]) -> None:
    train, ood = bill["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"]
    facts = {fact["name"]: fact["value"] for fact in train["contents"]["properties"]}
    assert facts["edgec:images: class cat"] == "3"
    assert facts["edgec:digest"] == "a" * 64
    assert [fact["name"] for fact in ood["contents"]["properties"]] == ["edgec:n", "edgec:digest"]


def test_what_took_part_is_named_and_only_the_engine_is_needed(bill: dict[str, Any]) -> None:
    found = {component["name"]: component for component in bill["components"]}
    assert {name for name, c in found.items() if c["scope"] == "required"} == {"onnxruntime"}
    assert found["torch"]["purl"] == "pkg:pypi/torch@2.9.0%2Bcpu"
    assert bill["dependencies"] == [{"ref": "model", "dependsOn": [found["onnxruntime"]["bom-ref"]]}]


def test_equal_bundles_have_equal_bills_and_others_another_number(
    described: Description, measurements: tuple[Measurement, ...]
) -> None:
    bill = bill_of_materials(described, MODEL, measurements)
    assert bill == bill_of_materials(described, MODEL, measurements)
    for changed in (described.model_copy(update={"release": 5}), described.model_copy(update={"name": "other"})):
        other = bill_of_materials(changed, MODEL, measurements)
        assert json.loads(other)["serialNumber"] != json.loads(bill)["serialNumber"]
    assert b"timestamp" not in bill
