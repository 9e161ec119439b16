"""Gates: what passes, what fails, and what a report cannot decide."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.gates import GateResult, Verdict, check_gates, fold_passes
from edgec.evaluate.intervals import PairedCounts
from edgec.evaluate.report import Report
from edgec.evaluate.significance import images_for_interval, images_for_share

DEVICE = "A small board"


def row(name: str, value: float, label: str | None = None, **more: object) -> Measurement:
    fields = {"stage": Stage.ARTIFACT, "unit": "share", "n": 100, "where": "here"} | more
    return Measurement(name=name, value=value, label=label, **fields)


def timed(name: str, value: float, machine: Machine | None = Machine.TARGET, **more: object) -> Measurement:
    where = DEVICE if machine is Machine.TARGET else "AMD EPYC"
    return row(name, value, **{"unit": "ms", "n": 400, "where": where, "machine": machine} | more)


def report(*rows: Measurement, **more: object) -> Report:
    fields = {"title": "t", "target": "board", "target_title": DEVICE, "labels": ("cat", "dog", "eel")} | more
    return Report(measurements=rows, **fields)


def verdicts(found: list[GateResult]) -> list[str]:
    return [result.verdict.value for result in found]


@pytest.mark.parametrize(
    ("gate", "name", "limit", "passing", "failing"),
    [
        ("min_accuracy", "accuracy", 0.9, 0.9, 0.8999),
        ("min_tail_accuracy", "tail_accuracy", 0.7, 0.71, 0.6),
        ("min_macro_f1", "macro_f1", 0.8, 1.0, 0.0),
        ("max_accuracy_drop", "accuracy_drop", 0.02, 0.02, 0.021),
        ("max_latency_ms_p50", "latency_ms_p50", 5, 4.9, 5.1),
        ("min_head_accuracy", "head_accuracy", 0.7, 0.7, 0.69),
        ("min_medium_accuracy", "medium_accuracy", 0.7, 0.7, 0.69),
        ("min_teacher_agreement", "teacher_agreement", 0.95, 0.95, 0.94),
        ("min_corrupted_accuracy", "corrupted_accuracy", 0.5, 0.6, 0.4),
        ("min_ood_auroc", "ood_auroc", 0.9, 0.9, 0.8),
        ("max_calibration_error", "calibration_error", 0.05, 0.05, 0.06),
        ("max_tail_drop", "tail_drop", 0.05, 0.05, 0.06),
        ("max_macro_f1_drop", "macro_f1_drop", 0.05, 0.05, 0.06),
        ("max_tail_regression", "tail_regression", 0.05, 0.05, 0.06),
        ("max_macro_f1_regression", "macro_f1_regression", 0.05, 0.05, 0.06),
        ("max_latency_ms_p90", "latency_ms_p90", 5, 5, 6),
        ("max_latency_ms_p95", "latency_ms_p95", 5, 5, 6),
        ("max_latency_ms_p99", "latency_ms_p99", 5, 5, 6),
        ("max_size_bytes", "size_bytes", 1000, 1000, 1001),
        ("max_peak_memory_mb", "peak_memory_mb", 80, 71.5, 81),
        ("max_energy_j", "energy_j", 0.02, 0.02, 0.03),
    ],
)
def test_a_gate_bounds_the_measurement_of_its_name(
    gate: str, name: str, limit: float, passing: float, failing: float
) -> None:
    for value, expected in ((passing, "pass"), (failing, "fail")):
        asked = Gates(**{gate: limit}, policy="strict")
        told = row(name, value, low=0.1, high=9.0, machine=Machine.TARGET)
        (found,) = check_gates(report(told), asked)
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


@pytest.mark.parametrize("corrupted", ["", "corrupted_"])
def test_the_worst_class_is_named(corrupted: str) -> None:
    shares = {"cat": 0.9, "dog": 0.8, "eel": 0.4}
    rows = [row(f"{corrupted}accuracy", value, label) for label, value in shares.items()]
    gates = Gates(**{f"min_{corrupted}worst_class_accuracy": 0.5})
    (found,) = check_gates(report(*rows), gates)
    assert (found.label, found.value, found.verdict) == ("eel", 0.4, Verdict.FAIL)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("corrupted", ["", "corrupted_"])
def test_a_class_without_images_leaves_open_whether_every_class_reaches_a_floor(policy: Policy, corrupted: str) -> None:
    gates = Gates(**{f"min_{corrupted}worst_class_accuracy": 0.5}, policy=policy)
    rows = [row(f"{corrupted}accuracy", 1.0, "cat"), row(f"{corrupted}accuracy", 1.0, "eel")]
    (found,) = check_gates(report(*rows), gates)
    assert (found.verdict, found.blocks) == (Verdict.INCONCLUSIVE, True)
    assert found.reason == "no test image of class 'dog': every class must reach the limit"
    (found,) = check_gates(report(rows[0], row(f"{corrupted}accuracy", 0.1, "eel")), gates)
    assert (found.label, found.verdict) == ("eel", Verdict.FAIL)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("gates", "rows"),
    [
        ({"min_accuracy": 0.5}, ["accuracy"]),
        ({"min_worst_class_accuracy": 0.5}, ["accuracy cat", "accuracy dog", "accuracy eel"]),
        ({"min_class_accuracy": {"dog": 0.5}}, ["accuracy dog"]),
        ({"max_accuracy_drop": 0.5}, ["accuracy_drop"]),
        ({"max_calibration_error": 0.5}, ["calibration_error"]),
        ({"max_size_bytes": 5}, ["size_bytes"]),
    ],
)
def test_what_is_no_number_fails_and_says_so(
    gates: dict[str, object], rows: list[str], value: float, policy: Policy
) -> None:
    told = [row(name.split()[0], value if name.endswith(rows[-1]) else 0.9, *name.split()[1:]) for name in rows]
    (found,) = check_gates(report(*told), Gates.model_validate({**gates, "policy": policy}))
    assert (found.verdict, found.blocks, found.value) == (Verdict.FAIL, True, None)
    assert f"is {value}, which is no number" in str(found.reason)


def test_only_the_artifact_counts() -> None:
    (found,) = check_gates(report(row("accuracy", 0.99, stage=Stage.TEACHER)), Gates(min_accuracy=0.5))
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "the report holds no accuracy")


def test_a_predicted_latency_decides_only_where_that_is_allowed() -> None:
    predicted = row("latency_ms_p50", 3.0, unit="ms", kind=Kind.PREDICTED, where=DEVICE)
    (strict,) = check_gates(report(predicted), Gates(max_latency_ms_p50=5))
    assert strict.reason == f"predicted for {DEVICE}, not measured: measure there, or allow predictions"
    assert (strict.value, strict.verdict) == (3.0, Verdict.INCONCLUSIVE)
    assert verdicts(check_gates(report(predicted), Gates(max_latency_ms_p50=5, allow_predicted=True))) == ["pass"]


MACHINES = {
    "max_latency_ms_p50": "latency_ms_p50",
    "max_latency_ms_p90": "latency_ms_p90",
    "max_latency_ms_p95": "latency_ms_p95",
    "max_latency_ms_p99": "latency_ms_p99",
    "max_peak_memory_mb": "peak_memory_mb",
    "max_energy_j": "energy_j",
}


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("machine", [Machine.OTHER, None])
@pytest.mark.parametrize("gate", MACHINES)
def test_another_machines_figure_never_decides(gate: str, machine: Machine | None, policy: Policy) -> None:
    """Neither for nor against the device, and it is not shown as the device's."""
    for value in (1.0, 100.0):
        told = timed(MACHINES[gate], value, machine, low=value, high=value)
        for allowed in (False, True):
            (found,) = check_gates(report(told), Gates(**{gate: 5}, policy=policy, allow_predicted=allowed))
            assert (found.verdict, found.blocks, found.value) == (Verdict.INCONCLUSIVE, True, None)
            assert found.reason == (
                f"measured on AMD EPYC, not on {DEVICE}: run edgec bench there, name its file by --bench"
            )


@pytest.mark.parametrize("gate", MACHINES)
def test_the_devices_own_figure_decides(gate: str) -> None:
    for value, expected in ((4.0, "pass"), (6.0, "fail")):
        rows = (timed(MACHINES[gate], 1.0, Machine.OTHER), timed(MACHINES[gate], value))
        assert verdicts(check_gates(report(*rows), Gates(**{gate: 5}))) == [expected]


def test_a_prediction_goes_before_another_machines_figure_and_a_measurement_before_both() -> None:
    here = timed("latency_ms_p50", 1.0, Machine.OTHER)
    predicted = timed("latency_ms_p50", 9.0, kind=Kind.PREDICTED)
    there = timed("latency_ms_p50", 8.0)
    gates = Gates(max_latency_ms_p50=5, allow_predicted=True)
    assert [result.value for result in check_gates(report(here, predicted), gates)] == [9.0]
    assert [result.value for result in check_gates(report(here, predicted, there), gates)] == [8.0]


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
    assert found.model_dump(mode="json") == {
        "name": "min_accuracy",
        "label": None,
        "limit": 0.5,
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "policy": "strict",
        "verdict": "pass",
        "blocks": False,
        "reason": None,
        "images": None,
        "told": False,
    }


def counted(right: int, n: int, label: str | None = None, name: str = "accuracy") -> Measurement:
    return row(name, right / n, label, n=n)


@pytest.mark.parametrize(
    ("right", "n", "confident", "prove"),
    [
        (96, 100, "pass", "pass"),
        (91, 100, "pass", "inconclusive"),
        (88, 100, "inconclusive", "inconclusive"),
        (75, 100, "fail", "fail"),
    ],
)
def test_policies_ask_for_proof(right: int, n: int, confident: str, prove: str) -> None:
    for policy, expected in (("confident", confident), ("prove", prove)):
        (found,) = check_gates(report(counted(right, n)), Gates(min_accuracy=0.9, policy=policy))
        assert found.verdict.value == expected
        assert found.blocks == (expected == "fail" or (expected == "inconclusive" and policy == "prove"))


def test_an_open_question_names_the_images_that_would_settle_it() -> None:
    (found,) = check_gates(report(counted(88, 100)), Gates(min_accuracy=0.9, policy="prove"))
    assert found.images == images_for_share(0.88, 0.9)
    assert found.reason == f"100 images do not tell; about {found.images:,} would"


def test_one_gate_may_have_a_policy_of_its_own() -> None:
    gates = Gates(min_accuracy=0.9, min_macro_f1=0.9, policy="prove", policies={"min_macro_f1": "strict"})
    found = check_gates(report(counted(91, 100), row("macro_f1", 0.91, low=0.8, high=0.95)), gates)
    assert verdicts(found) == ["inconclusive", "pass"]
    with pytest.raises(ConfigError, match="no gate 'min_acuracy'; did you mean 'min_accuracy'"):
        bind({"policies": {"min_acuracy": "prove"}}, Gates, where="gates")


def test_over_many_classes_a_single_odd_one_is_no_proof() -> None:
    labels = tuple(f"c{i}" for i in range(20))
    drops = {label: PairedCounts(both=80, first=6, second=6, neither=8) for label in labels}
    drops["c3"] = PairedCounts(both=80, first=10, second=2, neither=8)
    rows = [row("accuracy_drop", (c.first - c.second) / 100, label) for label, c in drops.items()]
    gates = Gates(max_class_drop=0.0, policy="confident")
    found = check_gates(report(*rows, labels=labels), gates, drops=drops)
    assert [result.label for result in found if result.verdict is not Verdict.PASS] == ["c3"]
    assert not any(result.blocks for result in found)
    (alone,) = check_gates(report(rows[3], labels=("c3", "x")), gates, drops=drops)[:1]
    assert alone.blocks


def test_the_worst_class_is_proven_by_all_of_them() -> None:
    rows = [counted(96, 100, "cat"), counted(97, 100, "dog"), counted(93, 100, "eel")]
    rows.append(rows[2].model_copy(update={"name": "worst_class_accuracy", "label": None}))
    for floor, expected in ((0.8, "pass"), (0.9, "inconclusive"), (0.99, "fail")):
        (found,) = check_gates(report(*rows), Gates(min_worst_class_accuracy=floor, policy="prove"))
        assert (found.label, found.verdict.value) == ("eel", expected)


def test_regressions_are_held_against_the_baseline_and_fail_only_by_proof() -> None:
    regressions = {
        None: PairedCounts(both=150, first=22, second=10, neither=18),
        "cat": PairedCounts(both=90, first=2, second=4, neither=4),
        "dog": PairedCounts(both=60, first=20, second=2, neither=18),
    }
    found = check_gates(report(), Gates(max_regression=0.0, max_class_regression=0.0), regressions=regressions)
    assert [(result.label, result.verdict.value, result.blocks) for result in found] == [
        (None, "fail", True),
        ("cat", "pass", False),
        ("dog", "fail", True),
        ("eel", "inconclusive", True),
    ]
    assert found[3].reason == (
        "no regression of class 'eel': a baseline bundle that was evaluated on the same images is needed"
    )
    assert (found[2].value, found[2].policy) == (0.18, Policy.CONFIDENT)


def test_a_drop_of_a_mean_over_classes_rests_on_its_own_interval_not_on_all_images() -> None:
    """McNemar's test over all images proves a drop here; that of the tail stays open."""
    drops = {None: PairedCounts(both=800, first=100, second=20, neither=80)}
    rows = (row("accuracy_drop", 0.08, n=1000), row("tail_drop", 0.06, n=40, low=-0.05, high=0.17))
    gates = Gates(max_accuracy_drop=0.02, max_tail_drop=0.02, policy="confident")
    assert verdicts(check_gates(report(*rows), gates, drops=drops)) == ["fail", "inconclusive"]


def test_an_open_question_of_a_latency_counts_runs() -> None:
    latency = timed("latency_ms_p95", 5.1, low=4.8, high=5.4)
    (found,) = check_gates(report(latency), Gates(max_latency_ms_p95=5.0, policy="confident"))
    assert found.images == images_for_interval(latency, 5.0)
    assert found.reason == f"400 runs do not tell; about {found.images:,} would"


@pytest.mark.parametrize("policy", ["confident", "prove"])
def test_a_number_without_an_interval_decides_nothing_but_that_it_meets_a_limit(policy: str) -> None:
    """Beyond the limit it blocks: nobody knows whether that is chance."""
    for value, passes in ((70.0, policy == "confident"), (90.0, False)):
        told = timed("peak_memory_mb", value, unit="MB", n=1)
        (found,) = check_gates(report(told), Gates(max_peak_memory_mb=80, policy=policy))
        assert found.blocks is not passes
        assert found.verdict is (Verdict.PASS if passes else Verdict.INCONCLUSIVE)
        assert passes or found.reason == (
            "n = 1, too few for an interval, proves nothing: hand over what edgec bench --json measures (--bench), "
            "or judge it by strict"
        )


@pytest.mark.parametrize("policy", list(Policy))
def test_a_size_is_exact(policy: Policy) -> None:
    for limit, expected in ((1000, "pass"), (999, "fail")):
        told = row("size_bytes", 1000, unit="bytes", n=1)
        assert verdicts(check_gates(report(told), Gates(max_size_bytes=limit, policy=policy))) == [expected]


def test_one_odd_class_of_many_is_no_proof_under_corruption_either() -> None:
    labels = tuple(f"c{i}" for i in range(100))
    rows = [counted(80, 100, label, "corrupted_accuracy") for label in labels]
    rows[3] = counted(71, 100, "c3", "corrupted_accuracy")
    gates = Gates(min_corrupted_worst_class_accuracy=0.8, policy="confident")
    (found,) = check_gates(report(*rows, labels=labels), gates)
    assert (found.label, found.verdict, found.blocks) == ("c3", Verdict.INCONCLUSIVE, False)
    (alone,) = check_gates(report(rows[3], rows[4], labels=("c3", "c4")), gates)
    assert alone.verdict is Verdict.FAIL
