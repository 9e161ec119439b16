"""Every gate under every policy, in situations whose verdict a statistician would give without looking it up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from edgec.bench.repeats import Repeated
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.accuracy import accuracy_measurements, agreement_measurement
from edgec.evaluate.bootstrap import class_mean_rows
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.gates import GateResult, Verdict, check_gates
from edgec.evaluate.intervals import quantile_ranks
from edgec.evaluate.paired import Outcomes, Pairs, drop_measurements
from edgec.evaluate.rejection import rejection_measurement
from edgec.evaluate.report import Report

LABELS = ("cat", "dog", "eel")
COUNTS = (30, 20, 10)
DEVICE, HERE = "A small board", "AMD EPYC"

LIMITS: dict[str, object] = {
    **dict.fromkeys(("min_accuracy", "min_worst_class_accuracy", "min_head_accuracy", "min_medium_accuracy"), 0.9),
    **dict.fromkeys(("min_tail_accuracy", "min_macro_f1", "min_teacher_agreement", "min_corrupted_accuracy"), 0.9),
    **dict.fromkeys(("min_corrupted_worst_class_accuracy", "min_ood_auroc"), 0.9),
    "min_class_accuracy": {"eel": 0.9},
    **dict.fromkeys(("max_calibration_error", "max_accuracy_drop", "max_class_drop", "max_tail_drop"), 0.05),
    **dict.fromkeys(("max_macro_f1_drop", "max_regression", "max_class_regression", "max_tail_regression"), 0.05),
    "max_macro_f1_regression": 0.05,
    **dict.fromkeys(("max_latency_ms_p50", "max_latency_ms_p90", "max_latency_ms_p95", "max_latency_ms_p99"), 5.0),
    "max_size_bytes": 1000,
    "max_peak_memory_mb": 80.0,
    "max_energy_j": 0.5,
}
OF_THE_DEVICE = [name for name in LIMITS if name.startswith(("max_latency", "max_peak", "max_energy"))]
EXACT = {"max_size_bytes"}
OF_CLASSES = {
    *("min_worst_class_accuracy", "min_class_accuracy", "min_corrupted_worst_class_accuracy"),
    *("max_class_drop", "max_class_regression", "min_tail_accuracy", "max_tail_drop", "max_tail_regression"),
}
OF_PAIRS = {"max_regression", "max_class_regression"}
"""Made from both bundles' answers when they are asked for, so neither NaN nor a row that is missing alone."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    report: Report
    pairs: Outcomes

    def verdicts(self, gate: str, policy: Policy, **more: object) -> list[GateResult]:
        gates = Gates.model_validate({gate: LIMITS[gate], "policy": policy, **more})
        return check_gates(self.report, gates, drops=self.pairs, regressions=self.pairs)


@cache
def bundle(*, images: int, right: bool, absent: str | None = None, order: tuple[str, ...] = LABELS) -> Bundle:
    """A bundle that gets all of its test images right, or none; its teacher and its baseline get all."""
    truth = np.repeat([i for i, label in enumerate(order) if label != absent], images)
    counts = np.array([COUNTS[LABELS.index(label)] for label in order])
    teacher, mine = np.eye(3)[truth] * 20, np.eye(3)[truth if right else (truth + 1) % 3] * 20
    common = {"stage": Stage.ARTIFACT, "where": HERE}
    accuracies = accuracy_measurements(mine, truth, order, train_counts=counts, **common)
    names = ("accuracy", "worst_class_accuracy")
    corrupted = [row.model_copy(update={"name": f"corrupted_{row.name}"}) for row in accuracies if row.name in names]
    sure, unsure = np.eye(3)[truth] * 9, np.eye(3)[truth] * np.linspace(0.1, 1, len(truth))[:, None]
    pairs = Pairs(truth=truth, first=teacher.argmax(axis=1), second=mine.argmax(axis=1), classes=order)
    rows = [
        *accuracies,
        *corrupted,
        *drop_measurements(mine, teacher, truth, order, **common),
        agreement_measurement(mine, teacher, **common),
        rejection_measurement(sure if right else unsure, unsure if right else sure, **common),
        *class_mean_rows(pairs, what="drop", train_counts=counts, **common),
        *class_mean_rows(pairs, what="regression", train_counts=counts, **common),
        *costs(images, right=right),
    ]
    report = Report(
        title="t",
        target="board",
        target_title=DEVICE,
        labels=order,
        train_counts=tuple(counts),
        measurements=tuple(rows),
    )
    return Bundle(report=report, pairs=pairs.outcomes())


def costs(runs: int, *, right: bool, machine: Machine = Machine.TARGET) -> list[Measurement]:
    """On the device, with as many runs: 1 ms where all is well, else 100 ms."""
    times = np.linspace(0.9, 1.1, runs) * (1 if right else 100)
    common = {"stage": Stage.ARTIFACT, "where": DEVICE if machine is Machine.TARGET else HERE, "machine": machine}
    rows = []
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        low, high = (None if rank is None else float(times[rank]) for rank in quantile_ranks(runs, quantile))
        told = {"name": f"latency_ms_{name}", "unit": "ms", "n": runs, "low": low, "high": high}
        rows.append(Measurement(value=float(np.quantile(times, quantile)), **told, **common))
    size, memory, energy = (100, 10, 0.1) if right else (10_000, 1_000, 10)
    rows.append(Measurement(stage=Stage.ARTIFACT, name="size_bytes", value=size, unit="bytes", n=1, where="on disk"))
    of_device = {"where": common["where"], "machine": machine}
    rows.append(Repeated.of(np.linspace(0.9, 1.1, runs) * memory).measurement("peak_memory_mb", "MB", **of_device))
    return [*rows, Repeated.of(np.linspace(0.9, 1.1, runs) * energy).measurement("energy_j", "J", **of_device)]


every_gate = pytest.mark.parametrize("gate", LIMITS)
every_policy = pytest.mark.parametrize("policy", list(Policy))


def one(results: list[GateResult]) -> tuple[set[Verdict], bool]:
    """The verdicts, and whether any blocks."""
    return {result.verdict for result in results}, any(result.blocks for result in results)


def test_no_gate_is_left_out() -> None:
    assert set(LIMITS) == set(Gates.model_fields) - {"policy", "policies", "allow_predicted"}


@every_gate
@every_policy
def test_a_perfect_bundle_passes(gate: str, policy: Policy) -> None:
    assert one(bundle(images=400, right=True).verdicts(gate, policy)) == ({Verdict.PASS}, False)


@every_gate
@every_policy
def test_a_bundle_that_gets_all_wrong_fails(gate: str, policy: Policy) -> None:
    assert one(bundle(images=400, right=False).verdicts(gate, policy)) == ({Verdict.FAIL}, True)


@every_gate
@every_policy
def test_one_image_of_a_class_proves_nothing(gate: str, policy: Policy) -> None:
    expected = (
        ({Verdict.INCONCLUSIVE}, True) if policy is Policy.PROVE and gate not in EXACT else ({Verdict.PASS}, False)
    )
    assert one(bundle(images=1, right=True).verdicts(gate, policy)) == expected


@every_gate
@every_policy
def test_a_class_without_images_leaves_open_what_speaks_of_it_and_nothing_else(gate: str, policy: Policy) -> None:
    found = one(bundle(images=400, right=True, absent="eel").verdicts(gate, policy))
    if gate in OF_CLASSES:
        assert Verdict.INCONCLUSIVE in found[0]
        assert found[1]
    else:
        assert found == one(bundle(images=400, right=True).verdicts(gate, policy))


@every_gate
@every_policy
def test_the_order_of_the_classes_does_not_matter(gate: str, policy: Policy) -> None:
    def told(order: tuple[str, ...]) -> set[tuple[str | None, Verdict, bool]]:
        found = bundle(images=30, right=False, order=order).verdicts(gate, policy)
        return {(None if "worst" in gate else r.label, r.verdict, r.blocks) for r in found}

    assert told(LABELS) == told(("eel", "cat", "dog"))


def changed(given: Bundle, **update: object) -> Bundle:
    rows = tuple(row.model_copy(update=update) for row in given.report.measurements)
    return Bundle(report=given.report.model_copy(update={"measurements": rows}), pairs=given.pairs)


@pytest.mark.parametrize("gate", [name for name in LIMITS if name not in OF_PAIRS])
@every_policy
def test_what_is_no_number_fails(gate: str, policy: Policy) -> None:
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    assert one(changed(bundle(images=400, right=True), **nothing).verdicts(gate, policy)) == ({Verdict.FAIL}, True)


@every_gate
@every_policy
def test_a_report_without_the_number_decides_nothing(gate: str, policy: Policy) -> None:
    bare = bundle(images=400, right=True).report.model_copy(update={"measurements": ()})
    found = Bundle(report=bare, pairs={}).verdicts(gate, policy)
    assert one(found) == ({Verdict.INCONCLUSIVE}, True)
    assert all(result.reason for result in found)


@pytest.mark.parametrize("gate", OF_THE_DEVICE)
@pytest.mark.parametrize("right", [True, False])
@every_policy
def test_another_machine_decides_nothing_about_the_device(gate: str, right: bool, policy: Policy) -> None:
    other = changed(bundle(images=400, right=right), machine=Machine.OTHER, where=HERE)
    assert one(other.verdicts(gate, policy)) == ({Verdict.INCONCLUSIVE}, True)


@pytest.mark.parametrize("gate", OF_THE_DEVICE)
@every_policy
def test_a_prediction_decides_only_where_it_may(gate: str, policy: Policy) -> None:
    predicted = changed(bundle(images=400, right=False), kind=Kind.PREDICTED)
    assert one(predicted.verdicts(gate, policy)) == ({Verdict.INCONCLUSIVE}, True)
    allowed = predicted.verdicts(gate, policy, allow_predicted=True)
    assert one(allowed) == one(bundle(images=400, right=False).verdicts(gate, policy))
