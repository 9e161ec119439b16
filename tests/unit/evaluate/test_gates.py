"""Gates: what passes, what fails, and what a report cannot decide."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.evaluate.gates import GateResult, Gates, Verdict, check_gates, fold_passes
from edgec.evaluate.report import Report

DEVICE = "A small board"


def row(name: str, value: float, label: str | None = None, **more: object) -> Measurement:
    fields = {"stage": Stage.ARTIFACT, "unit": "share", "n": 100, "where": "here"} | more
    return Measurement(name=name, value=value, label=label, **fields)


def report(*rows: Measurement, **more: object) -> Report:
    fields = {"title": "t", "target": "board", "target_title": DEVICE, "labels": ("cat", "dog", "eel")} | more
    return Report(measurements=rows, **fields)


def verdicts(found: list[GateResult]) -> list[str]:
    return [result.verdict.value for result in found]


@pytest.mark.parametrize(
    ("gate", "name", "limit", "passing", "failing"),
    [
        ("min_accuracy", "accuracy", 0.9, 0.9, 0.8999),
        ("min_worst_class_accuracy", "worst_class_accuracy", 0.7, 0.7, 0.6),
        ("min_tail_accuracy", "tail_accuracy", 0.7, 0.71, 0.6),
        ("min_macro_f1", "macro_f1", 0.8, 1.0, 0.0),
        ("max_accuracy_drop", "accuracy_drop", 0.02, 0.02, 0.021),
        ("max_latency_ms_p50", "latency_ms_p50", 5, 4.9, 5.1),
        ("max_latency_ms_p99", "latency_ms_p99", 5, 5, 6),
        ("max_size_bytes", "size_bytes", 1000, 1000, 1001),
        ("max_peak_memory_mb", "peak_memory_mb", 80, 71.5, 81),
    ],
)
def test_a_gate_bounds_the_measurement_of_its_name(
    gate: str, name: str, limit: float, passing: float, failing: float
) -> None:
    for value, expected in ((passing, "pass"), (failing, "fail")):
        (found,) = check_gates(report(row(name, value, low=0.1, high=9.0)), Gates(**{gate: limit}))
        assert (found.name, found.limit, found.value, found.verdict.value) == (gate, limit, value, expected)
        assert (found.low, found.high) == (0.1, 9.0)


def test_gates_that_are_not_set_are_not_checked() -> None:
    assert check_gates(report(row("accuracy", 0.1)), Gates()) == []


def test_a_floor_is_held_against_its_class() -> None:
    gates = Gates(min_class_accuracy={"dog": 0.8, "cat": 0.8})
    found = check_gates(report(row("accuracy", 0.9, "cat"), row("accuracy", 0.7, "dog")), gates)
    assert [(result.label, result.verdict.value) for result in found] == [("dog", "fail"), ("cat", "pass")]


def test_the_class_drop_is_held_against_every_class_also_those_without_images() -> None:
    rows = (row("accuracy_drop", 0.1, "cat"), row("accuracy_drop", 0.3, "dog"), row("accuracy_drop", 0.9))
    found = check_gates(report(*rows), Gates(max_class_drop=0.2))
    assert [(result.label, result.verdict.value) for result in found] == [
        ("cat", "pass"),
        ("dog", "fail"),
        ("eel", "inconclusive"),
    ]
    assert found[2].reason == "the report holds no accuracy_drop of class 'eel'"


def test_the_worst_class_is_named() -> None:
    rows = (row("accuracy", 0.9, "cat"), row("accuracy", 0.4, "eel"), row("worst_class_accuracy", 0.4))
    (found,) = check_gates(report(*rows), Gates(min_worst_class_accuracy=0.5))
    assert found.label == "eel"


def test_only_the_artifact_counts() -> None:
    (found,) = check_gates(report(row("accuracy", 0.99, stage=Stage.TEACHER)), Gates(min_accuracy=0.5))
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "the report holds no accuracy")


def test_a_predicted_latency_decides_only_where_that_is_allowed() -> None:
    predicted = row("latency_ms_p50", 3.0, unit="ms", kind=Kind.PREDICTED, where=DEVICE)
    (strict,) = check_gates(report(predicted), Gates(max_latency_ms_p50=5))
    assert strict.reason == f"predicted for {DEVICE}, not measured: measure there, or allow predictions"
    assert (strict.value, strict.verdict) == (3.0, Verdict.INCONCLUSIVE)
    assert verdicts(check_gates(report(predicted), Gates(max_latency_ms_p50=5, allow_predicted=True))) == ["pass"]


def test_what_another_machine_measured_does_not_stand_for_the_device() -> None:
    here = row("latency_ms_p50", 1.0, unit="ms")
    predicted = row("latency_ms_p50", 9.0, unit="ms", kind=Kind.PREDICTED, where=DEVICE)
    there = row("latency_ms_p50", 8.0, unit="ms", where=DEVICE)
    gates = Gates(max_latency_ms_p50=5, allow_predicted=True)
    assert [result.value for result in check_gates(report(here, predicted), gates)] == [9.0]
    assert [result.value for result in check_gates(report(here, predicted, there), gates)] == [8.0]
    assert [result.value for result in check_gates(report(here), gates)] == [1.0]


def test_an_unknown_class_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        check_gates(report(), Gates(min_class_accuracy={"cta": 0.5}))
    assert str(caught.value) == "unknown class 'cta'; known: cat, dog, eel"
    assert caught.value.hint == "did you mean 'cat'?"


@pytest.mark.parametrize("values", [{"min_accuracy": 90}, {"min_class_accuracy": {"cat": 90}}, {"max_class_drop": 90}])
def test_a_percentage_is_refused_with_the_share_that_was_meant(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"got 90, expected a share from 0 to 1, such as 0\.9 for 90 %"):
        bind(values, Gates, where="gates")


@pytest.mark.parametrize("values", [{"max_size_bytes": 0}, {"min_accuracy": float("nan")}, {"min_acuracy": 0.9}])
def test_limits_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Gates.model_validate(values)


def test_gates_are_empty_when_nothing_is_asked() -> None:
    assert Gates().empty
    assert Gates(allow_predicted=True).empty
    assert not Gates(min_accuracy=0.0).empty
    assert not Gates(min_class_accuracy={"cat": 0.5}).empty


def test_the_closest_pass_stands_for_all_of_a_gate_and_every_other_verdict_is_kept() -> None:
    rows = [row("accuracy_drop", value, label) for value, label in ((0.1, "cat"), (0.19, "dog"), (0.3, "eel"))]
    folded = fold_passes(check_gates(report(*rows, row("accuracy", 0.9)), Gates(min_accuracy=0.5, max_class_drop=0.2)))
    assert [(result.name, result.label, others) for result, others in folded] == [
        ("min_accuracy", None, 0),
        ("max_class_drop", "dog", 1),
        ("max_class_drop", "eel", 0),
    ]


def test_the_json_record_has_the_fields_that_scripts_rely_on() -> None:
    (found,) = check_gates(report(row("accuracy", 0.9, low=0.8, high=0.95)), Gates(min_accuracy=0.5))
    assert found.as_json() == {
        "name": "min_accuracy",
        "label": None,
        "limit": 0.5,
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "verdict": "pass",
    }
