"""The report as a value: round trips, look-ups, and files that are not one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgec.core.errors import IntegrityError
from edgec.core.measurement import Kind, Stage
from edgec.evaluate.report import Report, encode_report, parse_report


def test_a_report_survives_its_file(tmp_path: Path, ten_classes: Report) -> None:
    (tmp_path / "report.json").write_bytes(encode_report(ten_classes))
    assert parse_report((tmp_path / "report.json").read_bytes()) == ten_classes


def test_the_file_has_the_fields_that_scripts_rely_on(ten_classes: Report) -> None:
    fields = json.loads(encode_report(ten_classes))
    assert fields["schema"] == 1
    expected = ["stage", "name", "label", "value", "unit", "n", "low", "high", "kind", "where", "machine"]
    assert all(list(row) == expected for row in fields["measurements"])


def test_a_look_up_prefers_what_speaks_of_the_target(ten_classes: Report) -> None:
    found = ten_classes.find(Stage.ARTIFACT, "latency_ms_p50")
    assert found is not None
    assert (found.kind, found.where) == (Kind.PREDICTED, ten_classes.target_title)
    assert ten_classes.find(Stage.ARTIFACT, "latency_ms_p12") is None


def test_a_copy_with_other_rows_looks_them_up_anew(ten_classes: Report) -> None:
    row = ten_classes.measurements[0]
    assert ten_classes.find(row.stage, row.name, row.label) is not None
    bare = ten_classes.model_copy(update={"measurements": ()})
    assert bare.find(row.stage, row.name, row.label) is None


def test_the_worst_class_is_that_of_the_row_without_label(ten_classes: Report) -> None:
    name = ten_classes.worst_class(Stage.ARTIFACT)
    worst = ten_classes.find(Stage.ARTIFACT, "worst_class_accuracy")
    assert name is not None
    assert worst is not None
    assert ten_classes.by_class(Stage.ARTIFACT, "accuracy")[name].value == worst.value


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"{", "'report.json' is not valid JSON", "build or copy"),
        (b"\xff", "'report.json' is not valid JSON", "build or copy"),
        (b"[]", "'report.json': report schema None, expected 1", "upgrade edgec"),
        (b'{"schema": 2}', "'report.json': report schema 2, expected 1", "upgrade edgec"),
        (b'{"schema": 1}', "'report.json': title: Field required", "build or copy"),
    ],
)
def test_a_file_that_is_no_report_is_refused(data: bytes, message: str, hint: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_report(data)
    assert str(caught.value).startswith(message)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_counts": [1, 2]}, "2 train_counts for 10 labels"),
        ({"confusion": {"artifact": [[1]]}}, "confusion of stage 'artifact': expected 10 rows of 10 counts"),
        ({"labels": [str(i) for i in range(10)], "confusion": {}}, "a measurement is of class 'airplane'"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    ten_classes: Report, change: dict[str, object], message: str
) -> None:
    fields = ten_classes.model_dump(mode="json", by_alias=True)
    with pytest.raises(ValidationError, match=message):
        Report.model_validate(fields | change)


def test_a_number_that_is_none_cannot_be_written(ten_classes: Report) -> None:
    row = ten_classes.measurements[0].model_copy(update={"value": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        encode_report(ten_classes.model_copy(update={"measurements": (row,)}))
