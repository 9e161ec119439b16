"""The table at the end of a build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgec.cli.summary import print_summary
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.gates import GateResult, check_gates
from edgec.evaluate.loss import Loss, loss_text
from edgec.evaluate.report import Report, encode_report
from edgec.pipeline.build import Built

CLASSES = (*(f"class {number:02}" for number in range(24)), "[/b]")
"""The last one looks like markup."""


def row(stage: Stage, name: str, value: float, label: str | None = None, unit: str = "share") -> Measurement:
    return Measurement(stage=stage, name=name, label=label, value=value, unit=unit, n=10, where="here")


@pytest.fixture
def report() -> Report:
    rows = [
        row(Stage.ARTIFACT, "size_bytes", 1_250_000, unit="bytes"),
        row(Stage.COMPRESSED, "size_bytes", 5e6, unit="bytes"),
    ]
    for stage in (Stage.TEACHER, Stage.COMPRESSED, Stage.ARTIFACT):
        rows.append(row(stage, "accuracy", 0.9))
        rows += [row(stage, "accuracy", (number + 1) / 25, name) for number, name in enumerate(CLASSES)]
    rows.append(row(Stage.ARTIFACT, "latency_ms_p50", 0.0503, unit="ms"))
    return Report(
        title="x",
        target="host",
        target_title="This machine",
        labels=CLASSES,
        train_counts=tuple(range(25, 0, -1)),
        measurements=tuple(rows),
        notes=("a note",),
    )


def lines_of(
    report: Report, folder: Path, capsys: pytest.CaptureFixture[str], gates: Sequence[GateResult] = ()
) -> list[str]:
    (folder / "report.json").write_bytes(encode_report(report))
    print_summary(Built(bundle=folder, seconds=1.0, cached=()), gates)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_of_many_classes_the_worst_are_shown_and_the_rest_are_counted(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(report, tmp_path, capsys)
    assert [line.split()[1] for line in lines if line.startswith("class ")][1:] == [f"{n:02}" for n in range(20)]
    assert "(5 better ones)" in lines


def test_a_name_that_looks_like_markup_is_shown_as_it_is(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worst = [row(Stage.ARTIFACT, "accuracy", 0, "[/b]"), row(Stage.ARTIFACT, "accuracy", 0)]
    few = [*(m for m in report.measurements if (m.stage, m.label) != (Stage.ARTIFACT, "[/b]")), *worst]
    lines = lines_of(report.model_copy(update={"measurements": tuple(few)}), tmp_path, capsys)
    assert any(line.startswith("[/b] ") for line in lines)


def test_stages_are_called_as_in_the_report_and_absent_ones_are_left_out(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines_of(report, tmp_path, capsys)[0].split() == ["class", "few", "teacher", "compressed", "artifact"]


def test_what_quantisation_gains_is_told_where_it_was_measured(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not any("Speed-up" in line for line in lines_of(report, tmp_path, capsys))
    measured = row(Stage.ARTIFACT, "speedup", 1.834, unit="times").model_copy(update={"low": 1.7, "high": 1.91})
    rows = (*report.measurements, measured)
    lines = lines_of(report.model_copy(update={"measurements": rows}), tmp_path, capsys)
    assert "Speed-up by quantisation: 1.83 × FP32's speed (1.70–1.91)" in lines


def test_a_gain_on_another_machine_says_where(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = row(Stage.ARTIFACT, "teacher_speedup", 3, unit="times").model_copy(update={"machine": Machine.OTHER})
    predicted = measured.model_copy(update={"kind": Kind.PREDICTED, "machine": Machine.TARGET, "where": "A board"})
    told = report.model_copy(update={"measurements": (*report.measurements, measured, predicted)})
    lines = lines_of(told, tmp_path, capsys)
    assert "Speed-up over the teacher: 3.00 × the teacher's speed, measured on here" in lines
    assert "Speed-up over the teacher: 3.00 × the teacher's speed, predicted for A board" in lines


def test_the_teacher_stands_beside_what_ships_where_both_were_found_alike(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row(Stage.TEACHER, "latency_ms_p50", 0.2, unit="ms"),
        row(Stage.TEACHER, "latency_ms_p50", 9, unit="ms").model_copy(update={"kind": Kind.PREDICTED}),
        row(Stage.TEACHER, "size_bytes", 2e7, unit="bytes"),
        row(Stage.TEACHER, "multiply_adds", 1.819e9, unit="multiply-adds"),
        row(Stage.ARTIFACT, "multiply_adds", 36_200_000, unit="multiply-adds"),
    ]
    told = report.model_copy(update={"measurements": (*report.measurements, *rows)})
    lines = lines_of(told, tmp_path, capsys)
    assert "Latency, median: 0.0503 ms, measured on here; the teacher's: 0.200 ms" in lines
    assert "Size: 1.25 MB, 5.00 MB in FP32; the teacher's: 20.0 MB" in lines
    assert "Multiply-adds, an image: 36.2 million; the teacher's: 1.82 billion" in lines


def test_latency_and_size_have_units(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(report, tmp_path, capsys)
    assert "Latency, median: 0.0503 ms, measured on here" in lines
    assert "Size: 1.25 MB, 5.00 MB in FP32" in lines
    assert lines[-1] == "note: a note"


def test_gates_that_block_are_the_last_words(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = check_gates(report, Gates(min_accuracy=0.95, max_latency_ms_p50=5, max_size_bytes=2_000_000))
    lines = lines_of(report, tmp_path, capsys, gates)
    last = " ".join(lines[lines.index("note: a note") + 1 :])
    assert last.startswith(
        "gates: 2 of 3 block this bundle: edgec check will stop it gates: accuracy: 90.0 %, asked ≥ 95.0 %"
    )
    assert "gates: latency, median: unknown, asked ≤ 5.00 ms; measured on here, not on This machine" in last


def test_gates_that_are_met_are_counted(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates = check_gates(report, Gates(min_accuracy=0.85))
    assert lines_of(report, tmp_path, capsys, gates)[-1] == "gates: none of 1 blocks this bundle"


def test_what_was_lost_against_fp32_is_the_last_line(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = Loss(scheme="u8s8", before=1.0, after=0.33, low=0.6, high=0.7, proven=True, n=180)
    told = report.model_copy(update={"loss": loss, "notes": (loss_text(loss), "a note")})
    lines = lines_of(told, tmp_path, capsys)
    assert lines[-1] == f"lost: {loss_text(loss)}"
    assert lines[-2] == "note: a note"
