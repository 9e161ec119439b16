"""Rows of the report."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from edgec.core.measurement import Kind, Measurement, Stage

ROW = {"stage": "artifact", "name": "accuracy", "value": 0.9, "unit": "share", "n": 100, "where": "host"}


def test_a_row_is_measured_over_everything_and_has_no_interval_unless_it_says_so() -> None:
    row = Measurement.model_validate(ROW)
    assert (row.stage, row.kind, row.label, row.low, row.high) == (Stage.ARTIFACT, Kind.MEASURED, None, None, None)


def test_a_row_survives_json() -> None:
    row = Measurement.model_validate({**ROW, "label": "cat", "low": 0.8, "high": 0.95, "kind": "predicted"})
    text = row.model_dump_json()
    assert Measurement.model_validate_json(text) == row
    assert json.loads(text)["kind"] == "predicted"


def test_stages_are_those_that_scripts_rely_on() -> None:
    assert [stage.value for stage in Stage] == ["teacher", "baseline", "few", "compressed", "artifact"]


@pytest.mark.parametrize(
    "change", [{"stage": "student"}, {"kind": "guessed"}, {"value": "high"}, {"unit": None}, {"colour": "red"}]
)
def test_other_values_are_refused(change: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        Measurement.model_validate({**ROW, **change})


@pytest.mark.parametrize("field", ROW)
def test_a_row_says_what_it_is_in_full(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}\n  Field required"):
        Measurement.model_validate({name: value for name, value in ROW.items() if name != field})


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Measurement.model_validate(ROW).value = 1.0
