"""The plan: a run's key changes with what it depends on, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.accelerator import Accelerator
from edgec.study.long_tail.grid import Grid
from edgec.study.long_tail.plan import Run, Study, few_plan, plan_study


def plan(*overrides: tuple[str, Any], path: Path | None = None, **fields: Any) -> Study:
    asked = {"losses": ("labels", "kd"), "adjusted": ("nothing",), "seeds": (0,), **fields}
    return plan_study(path, overrides, Grid.model_validate(asked), accelerator=Accelerator.CPU)


def keys(study: Study) -> dict[str, str]:
    return {run.title: run.key.key for run in study.runs}


def run_of(study: Study, name: str) -> Run:
    return next(run for run in study.runs if run.cell.name == name)


def test_every_run_has_a_key_of_its_own() -> None:
    study = plan(data=("whole", "few"), imbalance=(10, 50), seeds=(0, 1), adjusted=("nothing", "labels", "both"))
    students = [run for run in study.runs if run.cell.loss != "teacher"]
    assert len({run.key.key for run in students}) == len(students)
    assert len({run.taught.key for run in study.runs}) == 4


def test_a_teacher_is_the_same_for_whole_and_few() -> None:
    whole, few = (run_of(plan(data=(data,)), "teacher") for data in ("whole", "few"))
    assert whole.taught == few.taught


def test_a_grid_that_grows_keeps_the_keys_that_were_there() -> None:
    before, after = keys(plan()), keys(plan(losses=("dist", "labels", "kd"), imbalance=(50, 10), seeds=(0, 1)))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"temperature": 2.0}, {"teacher", "teacher, adjusted teacher", "labels"}),
        ({"teacher_steps": 9}, {"labels"}),
        ({"samples": 60}, set()),
        ({"training": {"steps": 9}, "teacher_steps": 200}, {"teacher", "teacher, adjusted teacher"}),
    ],
)
def test_what_a_run_depends_on_changes_its_key(fields: dict[str, Any], same: set[str]) -> None:
    before, after = plan(), plan(**fields)
    assert {run.cell.name for run, other in zip(before.runs, after.runs, strict=True) if run.key == other.key} == same


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("compress.flip", True, {"whole", "few"}),
        ("compress.steps", 3, {"few"}),
        ("data.few.total", 20, {"few"}),
        ("data.ood_count", 60, {"few"}),
        ("compress.method", "practise", {"few"}),
        ("seed", 7, set()),
        ("target", "jetson", {"few"}),
        ("model.trained_on", "few", set()),
    ],
)
def test_of_the_config_only_what_takes_part_counts(name: str, value: Any, data: set[str]) -> None:
    for kind in ("whole", "few"):
        before, after = (run_of(plan(*given, data=(kind,)), "kd").key for given in ((), ((name, value),)))
        assert (before != after) is (kind in data)


def test_weights_and_images_that_are_not_used_need_not_be_there() -> None:
    absent = (("model.weights", "nowhere.safetensors"), ("data.ood", "nowhere"), ("data.calibration", "nowhere.npz"))
    assert keys(plan(*absent)) == keys(plan())


def test_a_name_without_a_module_is_one_of_the_config_s_module() -> None:
    study = plan(pairs=("digits_net/edgec.models.cifar_resnet:resnet8",))
    run = run_of(study, "kd")
    assert run.teacher.model.name == "edgec.models.digits:digits_net"
    assert run.student.model.name == "edgec.models.cifar_resnet:resnet8"
    assert run.group == "digits_net/resnet8, imbalance 50"


def test_recovery_from_few_samples_compares_logits_by_the_loss_that_is_asked_for() -> None:
    study = plan(data=("few",), losses=("labels", "ltkd"), temperature=3.0, imbalance=(20,))
    features, ltkd = (few_plan(run_of(study, name)).config for name in ("features", "ltkd"))
    assert features.compress.oefsmc.recovery.logit_weight == 0
    recovery = ltkd.compress.oefsmc.recovery
    assert (recovery.logit_loss, recovery.logit_weight, recovery.temperature) == ("ltkd", 0.05, 3.0)
    assert ltkd.data.few is not None
    assert (ltkd.data.few.total, ltkd.data.few.imbalance) == (50, 20)


def test_an_unknown_setting_is_found_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"config: unknown key 'compress\.stpes'"):
        plan(("compress.stpes", 3))


def test_few_samples_need_a_method_that_prunes() -> None:
    with pytest.raises(ConfigError, match=r"compress\.method is 'none', which prunes no teacher"):
        plan(("compress.method", "none"), data=("few",))


def test_a_finished_graph_cannot_be_studied(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    image = {"height": 8, "width": 8, "channels": 1, "mean": [0.3], "std": [0.4]}
    with pytest.raises(UnsupportedError, match="is a finished graph, which cannot be trained"):
        plan(("model.name", str(tmp_path / "net.onnx")), ("model.input", image), ("data.ood_count", 60))
