"""`edgec build` to a budget of predicted latency: what ships keeps within it, and everything says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.measurement import Stage
from edgec.evaluate.report import Report, parse_report

BUDGET = ("--target", "raspberry-pi-5", "--set", "compress.keep_latency=0.7", "--set", "compress.compare=[]")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, builder: Any) -> Any:
    return builder(tmp_path_factory.mktemp("latency"), *BUDGET)


def predicted_ms(report: Report, stage: Stage) -> float:
    rows = [row for row in report.measurements if row.stage is stage and row.kind.value == "predicted"]
    return next(row.value for row in rows if row.name == "latency_ms_p50")


def test_what_ships_is_predicted_to_keep_within_the_budget(built: Any) -> None:
    report = parse_report((built.bundle / "report.json").read_bytes())
    facts = next(step.facts for step in report.lineage if step.name == "compress")["mir"]
    teacher_ms = facts["teacher_latency_ms"]
    assert facts["latency_ms"] <= 0.7 * teacher_ms
    assert predicted_ms(report, Stage.ARTIFACT) == pytest.approx(facts["latency_ms"], rel=1e-6)
    (note,) = [note for note in report.notes if note.startswith("latency budget: ")]
    assert note.endswith(f"the pruned net takes {facts['latency_ms']:.3g} ms")
    assert "latency: " in built.outcome.stderr


def test_a_budget_out_of_reach_ends_the_build(tmp_path: Path, built: Any, edgec: Any) -> None:
    given = [each.replace("keep_latency=0.7", "max_latency_ms=0.0001") for each in built.arguments]
    outcome = edgec("build", *given, "--output", tmp_path / "bundle")
    assert outcome.exit_code == 2
    assert "max_latency_ms = 0.0001: pruning inside the blocks" in outcome.stderr
    assert "set compress.max_latency_ms to " in outcome.stderr
