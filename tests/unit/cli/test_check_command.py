"""`edgec check`: verdicts, exit codes, and a check that checks nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgec.cli.check import command
from edgec.core.errors import ConfigError, DataError, EdgecError, GateFailed, IntegrityError
from edgec.package import open_bundle, write_archive
from edgec.runtime import load_model

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"


@pytest.fixture
def checked(make_pets: Callable[..., Path]) -> Path:
    """90 % accuracy, 80 % in the worst class, a predicted latency, two gates."""
    return make_pets()


@pytest.fixture
def ungated(make_bundle: Callable[..., Path], checked: Path) -> Path:
    fields = json.loads((checked / "report.json").read_bytes()) | {"gates": None}
    predictions = (checked / "predictions.npz").read_bytes()
    return make_bundle("ungated", files={"report.json": json.dumps(fields).encode(), "predictions.npz": predictions})


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(command, [str(argument) for argument in arguments])


def failure(result: Result) -> EdgecError:
    assert isinstance(result.exception, EdgecError), result.output
    return result.exception


def found(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout)


@pytest.mark.parametrize(("stage", "label"), [("artifact", None), ("artifact", "dog"), ("teacher", None)])
def test_an_accuracy_that_the_predictions_do_not_give_is_refused(
    make_bundle: Callable[..., Path], checked: Path, stage: str, label: str | None
) -> None:
    """Its digest fits: whoever edits a number can pack the bundle again."""
    fields = json.loads((checked / "report.json").read_bytes())
    row = next(r for r in fields["measurements"] if (r["stage"], r["name"], r["label"]) == (stage, "accuracy", label))
    row |= {"value": 0.5, "low": 0.4, "high": 1.0}
    files = {name: (checked / name).read_bytes() for name in ("report.json", "predictions.npz")}
    edited = make_bundle("edited", files=files | {"report.json": json.dumps(fields).encode()})
    error = failure(run(edited, "--min-accuracy", 0.5))
    of = f"{stage}'s accuracy" + (f" on '{label}'" if label else "")
    assert isinstance(error, IntegrityError)
    assert f"report.json: {of} is 0.5, expected 0.9" in str(error)


Repack = Callable[..., Path]


@pytest.fixture
def repack(make_bundle: Callable[..., Path], checked: Path) -> Repack:
    """The bundle with other rows in place of the artifact's of the same name and class, packed to fit."""

    def make(*rows: dict[str, Any]) -> Path:
        fields = json.loads((checked / "report.json").read_bytes())
        common = {"stage": "artifact", "label": None, "unit": "share", "n": 60, "kind": "measured", "where": "a lie"}
        rows = tuple(common | row for row in rows)
        keys = {(row["stage"], row["name"], row["label"]) for row in rows}
        kept = [r for r in fields["measurements"] if (r["stage"], r["name"], r["label"]) not in keys]
        report = json.dumps(fields | {"measurements": [*kept, *rows]}).encode()
        files = {"report.json": report, "predictions.npz": (checked / "predictions.npz").read_bytes()}
        return make_bundle("repacked", files=files)

    return make


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("worst_class_accuracy", None, "0.8"),
        ("macro_f1", None, "0.8995"),
        ("head_accuracy", None, "1"),
        ("tail_accuracy", None, "0.8"),
        ("teacher_agreement", None, "0.95"),
        ("accuracy_drop", None, "0.05"),
        ("accuracy_drop", "dog", "0.05"),
    ],
)
def test_whatever_follows_from_the_predictions_is_counted_again(
    repack: Repack, name: str, label: str | None, expected: str
) -> None:
    error = failure(run(repack({"name": name, "label": label, "value": 0.6}), "--min-accuracy", 0.5))
    assert isinstance(error, IntegrityError)
    assert f"artifact's {name.replace('_', ' ')}" in str(error)
    assert re.search(rf"is 0\.6, expected {re.escape(expected)}\S* by predictions\.npz", str(error)), str(error)


def test_intervals_are_those_of_the_predictions(repack: Repack) -> None:
    """A false one would prove what is not so."""
    rows = [{"name": name, "value": 0.9, "low": 0.899, "high": 0.901, "n": 10**6} for name in ("accuracy", "macro_f1")]
    told = found(run(repack(*rows), "--min-accuracy", 0.85, "--min-macro-f1", 0.85, "--policy", "prove", "--json"))
    assert [gate["verdict"] for gate in told["gates"]] == ["inconclusive"] * 2
    assert all(gate["low"] < 0.85 for gate in told["gates"])


def test_means_of_drops_are_counted_again(repack: Repack) -> None:
    rows = [{"name": name, "value": -0.5, "low": -0.6, "high": -0.4} for name in ("macro_f1_drop", "tail_drop")]
    told = found(run(repack(*rows), "--max-macro-f1-drop", 0.01, "--max-tail-drop", 0.01, "--json"))
    assert [gate["verdict"] for gate in told["gates"]] == ["fail"] * 2
    assert all(gate["value"] > 0.01 for gate in told["gates"])


def test_the_size_is_that_of_the_file(repack: Repack) -> None:
    bundle = repack({"name": "size_bytes", "value": 1, "unit": "bytes", "n": 1})
    (gate,) = found(run(bundle, "--max-size-bytes", 2, "--json"))["gates"]
    assert (gate["verdict"], gate["value"]) == ("fail", (bundle / "model.onnx").stat().st_size)


def test_what_rests_on_the_bundles_word_is_said(repack: Repack) -> None:
    bundle = repack({"name": "calibration_error", "value": 0.01, "low": 0, "high": 0.02})
    asked = (bundle, "--min-accuracy", 0.5, "--max-calibration-error", 0.1)
    assert [gate["told"] for gate in found(run(*asked, "--json"))["gates"]] == [False, True]
    assert "as the bundle says, not counted again: max_calibration_error" in run(*asked).stdout


def test_a_bundle_is_verified_before_it_is_judged(checked: Path) -> None:
    (checked / "model.onnx").write_bytes(b"garbage")
    assert isinstance(failure(run(checked, "--min-accuracy", 0.5)), IntegrityError)


def test_a_signature_is_demanded_where_a_key_is_named(checked: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pub").write_bytes(key.public_bytes(pem, kind))
    error = failure(run(checked, "--min-accuracy", 0.5, "--key", tmp_path / "key.pub"))
    assert str(error) == f"'{checked}' is not signed, expected a signature"


def test_gates_that_are_met_exit_0(checked: Path) -> None:
    result = run(checked, "--min-accuracy", 0.9, "--min-worst-class", 0.8)
    assert result.exit_code == 0, result.output
    assert "min_worst_class_accuracy" in result.stdout
    assert "Käfer" in result.stdout


def test_json_is_one_object_with_a_record_a_gate(checked: Path) -> None:
    result = run(checked, "--min-accuracy", 0.9, "--class-floor", "dog=0.5", "--json")
    assert found(result) == {
        "passed": True,
        "gates": [
            {
                "name": "min_accuracy",
                "label": None,
                "limit": 0.9,
                "value": 0.9,
                "low": pytest.approx(0.7985, abs=1e-4),  # Wilson's
                "high": pytest.approx(0.9534, abs=1e-4),
                "policy": "strict",
                "verdict": "pass",
                "blocks": False,
                "reason": None,
                "images": None,
                "told": False,
            },
            {
                "name": "min_class_accuracy",
                "label": "dog",
                "limit": 0.5,
                "value": 0.9,
                "low": pytest.approx(0.6990, abs=1e-4),
                "high": pytest.approx(0.9721, abs=1e-4),
                "policy": "strict",
                "verdict": "pass",
                "blocks": False,
                "reason": None,
                "images": None,
                "told": False,
            },
        ],
    }


def test_a_failed_gate_exits_3_after_the_table(checked: Path) -> None:
    result = run(checked, "--min-worst-class", 0.81, "--min-accuracy", 0.5)
    error = failure(result)
    assert isinstance(error, GateFailed)
    assert error.exit_code == 3
    assert str(error) == "1 of 2 gates not passed, first: min_worst_class_accuracy of 'Käfer' fail"
    assert "81.0 %" in result.stdout


def test_a_failed_gate_prints_its_json_first(checked: Path) -> None:
    result = run(checked, "--max-class-drop", 0.04, "--json")
    assert isinstance(failure(result), GateFailed)
    assert not found(result)["passed"]
    assert [(gate["label"], gate["verdict"]) for gate in found(result)["gates"]] == [
        ("cat", "pass"),
        ("dog", "fail"),
        ("Käfer", "fail"),
    ]


def test_a_predicted_latency_is_inconclusive_and_so_does_not_pass(checked: Path) -> None:
    result = run(checked, "--max-latency-ms", 5)
    assert "inconclusive" in str(failure(result))
    assert "not measured" in result.stdout
    assert run(checked, "--max-latency-ms", 5, "--allow-predicted").exit_code == 0


def test_without_options_the_gates_of_the_bundle_are_checked(checked: Path) -> None:
    result = run(checked, "--json")
    assert result.exit_code == 0, result.output
    assert {gate["name"] for gate in found(result)["gates"]} == {"min_accuracy", "max_class_drop"}


def test_a_check_that_checks_nothing_does_not_pass(ungated: Path) -> None:
    for arguments in ((), ("--allow-predicted",)):
        error = failure(run(ungated, *arguments))
        assert isinstance(error, ConfigError)
        assert str(error) == "no gate to check: none was given, and the bundle carries none"
        assert "--min-worst-class 0.7" in str(error.hint)


def test_gates_come_from_a_config_and_options_go_first(ungated: Path, tmp_path: Path) -> None:
    config = tmp_path / "edgec.toml"
    config.write_text('target = "host"\n[gates]\nmin_accuracy = 0.99\nmin_class_accuracy = { cat = 0.9 }\n')
    assert isinstance(failure(run(ungated, "--config", config)), GateFailed)
    result = run(ungated, "--config", config, "--min-accuracy", 0.5, "--json")
    assert [(gate["name"], gate["limit"]) for gate in found(result)["gates"]] == [
        ("min_accuracy", 0.5),
        ("min_class_accuracy", 0.9),
    ]


def test_a_floor_for_one_class_leaves_those_for_others(ungated: Path, tmp_path: Path) -> None:
    config = tmp_path / "edgec.toml"
    config.write_text("[gates]\nmin_class_accuracy = { cat = 0.9, dog = 0.99 }\n")
    result = run(ungated, "--config", config, "--class-floor", "dog=0.6", "--class-floor", "Käfer=0.5", "--json")
    assert {gate["label"]: gate["limit"] for gate in found(result)["gates"]} == {"cat": 0.9, "dog": 0.6, "Käfer": 0.5}


def test_an_archive_is_checked_like_a_folder(checked: Path, tmp_path: Path) -> None:
    archive = write_archive(checked, tmp_path / "one.edgec")
    assert run(archive, "--min-accuracy", 0.9, "--json").stdout == run(checked, "--min-accuracy", 0.9, "--json").stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--min-accuracy", 90), "--min-accuracy: got 90, expected a share from 0 to 1", "write 0.9 for 90 %"),
        (("--min-accuracy", "high"), "--min-accuracy: could not convert", "write 0.9"),
        (("--class-floor", "dog"), "--class-floor dog: expected NAME=SHARE", "--class-floor cat=0.8"),
        (("--class-floor", "dog=80"), "--class-floor: got 80, expected a share", "write 0.9"),
        (("--class-floor", "dgo=0.8"), "unknown class 'dgo'", "did you mean 'dog'?"),
        (("--max-size-bytes", 0), "gates: field 'max_size_bytes': got 0, expected greater than 0", "correct"),
        (("--config", "absent.toml"), "cannot read config 'absent.toml'", "check the path"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    checked: Path, arguments: tuple[object, ...], message: str, hint: str
) -> None:
    error = failure(run(checked, *arguments))
    assert error.exit_code == 2
    assert str(error).startswith(message)
    assert hint in str(error.hint)


def test_a_config_without_gates_is_refused(checked: Path, tmp_path: Path) -> None:
    (tmp_path / "edgec.toml").write_text('target = "host"\n')
    error = failure(run(checked, "--config", tmp_path / "edgec.toml"))
    assert "field 'gates' is missing" in str(error)


def test_a_bundle_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    error = failure(run(tmp_path / "absent", "--min-accuracy", 0.9))
    assert isinstance(error, DataError)


def test_passes_of_many_classes_take_one_line(checked: Path) -> None:
    result = run(checked, "--max-class-drop", 0.2)
    assert result.exit_code == 0, result.output
    assert "Käfer and 2 more" in result.stdout
    assert result.stdout.count("max_class_drop") == 1


def test_against_a_baseline_no_class_may_be_worse_beyond_chance(checked: Path, make_pets: Callable[..., Path]) -> None:
    same, better = make_pets("same"), make_pets("better", right=(20, 20, 20))
    assert run(checked, "--baseline", same, "--json").exit_code == 0
    result = run(make_pets("worse", right=(20, 18, 8)), "--baseline", better, "--json")
    assert isinstance(failure(result), GateFailed)
    regressions = [gate for gate in found(result)["gates"] if gate["name"] == "max_class_regression"]
    assert [(gate["label"], gate["value"], gate["verdict"], gate["blocks"]) for gate in regressions] == [
        ("cat", 0.0, "pass", False),
        ("dog", 0.1, "inconclusive", False),
        ("Käfer", 0.6, "fail", True),
    ]


def test_a_question_that_stays_open_says_how_many_images_would_settle_it(
    checked: Path, make_pets: Callable[..., Path]
) -> None:
    better = make_pets("better", right=(20, 20, 20))
    result = run(checked, "--baseline", better)
    assert result.exit_code == 0, result.output
    assert "20 images do not tell; about" in " ".join(result.stdout.split())


def test_a_baseline_on_other_images_decides_nothing(checked: Path, make_pets: Callable[..., Path]) -> None:
    result = run(checked, "--baseline", make_pets("other", first=100))
    assert "max_class_regression of 'cat' inconclusive" in str(failure(result))
    assert "evaluated on the same images" in result.stdout


def test_a_regression_without_a_baseline_is_refused(checked: Path) -> None:
    error = failure(run(checked, "--max-regression", 0.01))
    assert (error.exit_code, str(error)) == (2, "a gate on regressions without a baseline")


def test_the_policy_decides_what_a_doubt_does(checked: Path) -> None:
    arguments = (checked, "--min-accuracy", 0.88)
    assert run(*arguments, "--policy", "confident").exit_code == 0
    assert "inconclusive" in str(failure(run(*arguments, "--policy", "prove")))


def test_json_fits_the_published_schema(checked: Path) -> None:
    jsonschema.validate(found(run(checked, "--json")), json.loads((SCHEMAS / "check.json").read_text()))
    jsonschema.validate(
        json.loads((checked / "report.json").read_bytes()), json.loads((SCHEMAS / "report.json").read_text())
    )


def test_verdicts_are_written_where_ci_looks_for_them_also_when_a_gate_fails(checked: Path, tmp_path: Path) -> None:
    names = ("junit", "markdown", "code-quality")
    files = [part for name in names for part in (f"--{name}", tmp_path / "out" / name)]
    result = run(checked, "--min-accuracy", 0.99, "--annotate", *files)
    assert isinstance(failure(result), GateFailed)
    assert all("min_accuracy" in (tmp_path / "out" / name).read_text() for name in names)
    assert "::error title=min_accuracy fail::Accuracy: 90.0 %25, asked for at least 99.0 %25\n" in result.stdout


def test_bundles_are_run_on_new_images(make_pets: Callable[..., Path], tmp_path: Path) -> None:
    """The small classifier's answers are known: images named by them are all right, by their neighbours all wrong."""
    bundle = make_pets()
    drawn = np.tile(np.random.default_rng(0).integers(0, 256, (2000, 1, 1, 3), dtype=np.uint8), (1, 4, 5, 1))
    guesses = load_model(bundle).predict(drawn).argmax(axis=1)
    chosen = np.concatenate([np.flatnonzero(guesses == label)[:10] for label in range(3)])
    pixels, given = drawn[chosen], guesses[chosen]
    for name, labels in (("right", given), ("wrong", (given + 1) % 3)):
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels, names=np.array(["cat", "dog", "Käfer"]))
    result = run(bundle, "--test", tmp_path / "right.npz", "--min-accuracy", 1.0, "--json")
    assert result.exit_code == 0, result.output
    assert (found(result)["gates"][0]["value"], found(result)["gates"][0]["low"]) == (
        1.0,
        pytest.approx(0.8865, abs=1e-4),
    )
    failed = run(bundle, "--test", tmp_path / "wrong.npz", "--min-accuracy", 0.1, "--max-drop", 1.0, "--json")
    assert [gate["verdict"] for gate in found(failed)["gates"]] == ["fail", "inconclusive"]


def repeated(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value, "runs": 6}


def benched(bundle: Path, path: Path, **changes: object) -> Path:
    """What `edgec bench --json` prints on a small board, as far as gates ask for it."""
    percentiles = {"p50": 4.0, "p90": 5.0, "p95": 5.5, "p99": 7.0}
    times = {name: {"value_ms": value, "low_ms": value - 0.2, "high_ms": None} for name, value in percentiles.items()}
    latency = {**times, "runs": 400, "warmup_runs": 20, "steady": True, "drift": 1.0}
    record = {"batch": 1, "latency": latency, "energy_j": repeated(0.02), "images_per_s": 250.0}
    memory = repeated(70.0)
    told = {"digest": open_bundle(bundle).digest, "where": "board", "memory_mb": memory, "batches": [record]}
    path.write_text(json.dumps(told | changes))
    return path


def test_what_was_measured_on_the_device_decides_in_place_of_a_prediction(checked: Path, tmp_path: Path) -> None:
    bench = benched(checked, tmp_path / "bench.json")
    limits = ("--max-latency-ms", 4, "--max-latency-p95-ms", 5, "--max-latency-p99-ms", 7, "--max-energy-j", 0.01)
    result = run(checked, *limits, "--max-memory-mb", 80, "--bench", bench, "--json")
    assert isinstance(failure(result), GateFailed)
    assert [(gate["name"], gate["value"], gate["verdict"]) for gate in found(result)["gates"]] == [
        ("max_latency_ms_p50", 4.0, "pass"),
        ("max_latency_ms_p95", 5.5, "fail"),
        ("max_latency_ms_p99", 7.0, "pass"),
        ("max_peak_memory_mb", 70.0, "pass"),
        ("max_energy_j", 0.02, "fail"),
    ]


def test_memory_and_energy_of_several_runs_prove_what_they_are_far_from(checked: Path, tmp_path: Path) -> None:
    bench = benched(checked, tmp_path / "bench.json")
    limits = ("--max-memory-mb", 80, "--max-energy-j", 0.021, "--policy", "prove", "--json")
    result = run(checked, *limits, "--bench", bench)
    assert [(gate["name"], gate["verdict"]) for gate in found(result)["gates"]] == [
        ("max_peak_memory_mb", "pass"),
        ("max_energy_j", "inconclusive"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "0" * 64}, "is of bundle 000000000000, the candidate is"),
        ({"batches": []}, "the measurement holds no batch of 1 image"),
        ({"where": None}, "is not what edgec bench --json prints: where: Input should be a valid string"),
    ],
)
def test_measurements_that_do_not_fit_are_refused(
    checked: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    bench = benched(checked, tmp_path / "bench.json", **changes)
    error = failure(run(checked, "--max-latency-ms", 5, "--bench", bench))
    assert isinstance(error, DataError)
    assert message in str(error)
    assert "edgec bench" in str(error.hint)


def test_a_measurement_that_is_not_there_is_bad_input(checked: Path, tmp_path: Path) -> None:
    error = failure(run(checked, "--max-latency-ms", 5, "--bench", tmp_path / "absent.json"))
    assert (error.exit_code, str(error)[:11]) == (2, "cannot read")


def test_means_over_classes_are_held_against_the_baseline(make_pets: Callable[..., Path]) -> None:
    """Macro F1 0.9 of 20 images a class against 1: the interval of the loss does not hold 0, and ends below 0.3."""
    better, worse = make_pets("better", right=(20, 20, 20)), make_pets("worse", right=(20, 20, 6))
    result = run(worse, "--baseline", better, "--max-macro-f1-regression", 0.0, "--max-tail-regression", 0.6, "--json")
    assert isinstance(failure(result), GateFailed)
    tail, macro = found(result)["gates"]
    assert (tail["name"], tail["value"], tail["verdict"]) == ("max_tail_regression", pytest.approx(0.7), "inconclusive")
    assert (macro["name"], macro["verdict"], macro["policy"]) == ("max_macro_f1_regression", "fail", "confident")
    assert 0 < macro["low"] < macro["value"] < macro["high"]
    assert tail["reason"].startswith("20 images do not tell; about")


def test_without_shared_images_means_over_classes_decide_nothing(make_pets: Callable[..., Path]) -> None:
    result = run(make_pets(), "--baseline", make_pets("other", first=100), "--max-macro-f1-regression", 0.1, "--json")
    (gate,) = found(result)["gates"]
    assert (gate["verdict"], gate["blocks"]) == ("inconclusive", True)
    assert "evaluated on the same images" in gate["reason"]


def test_an_unknown_gate_is_refused_with_the_nearest_name(checked: Path, tmp_path: Path) -> None:
    config = tmp_path / "gates.toml"
    config.write_text("[gates]\nmax_macro_f1_dorp = 5\n")
    error = failure(run(checked, "--config", config))
    assert "unknown key 'gates.max_macro_f1_dorp'" in str(error)
    assert error.hint == "did you mean 'max_macro_f1_drop'?"


def test_a_class_that_is_not_there_is_refused_before_images_are_run(checked: Path, tmp_path: Path) -> None:
    error = failure(run(checked, "--class-floor", "dgo=0.5", "--test", tmp_path / "absent"))
    assert (str(error).partition(";")[0], error.hint) == ("unknown class 'dgo'", "did you mean 'dog'?")


@pytest.mark.parametrize(("floor", "code"), [(0.5, 0), (0.99, 3)])
def test_the_record_goes_into_a_file_whatever_the_verdict_and_the_exit_code_stays(
    checked: Path, tmp_path: Path, floor: float, code: int
) -> None:
    """A pipe to tee would end with tee's exit code where the shell has no pipefail."""
    result = run(checked, "--min-accuracy", floor, "--output", tmp_path / "out" / "gates.json")
    assert result.exit_code == 0 if code == 0 else failure(result).exit_code == code
    printed = run(checked, "--min-accuracy", floor, "--json").stdout
    assert (tmp_path / "out" / "gates.json").read_text() == printed
    assert "min_accuracy" in result.stdout
    assert not result.stdout.startswith("{")
