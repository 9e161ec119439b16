"""The plan: a run's key changes with what it depends on, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.accelerator import Accelerator
from edgec.study.imbalance.grid import Grid
from edgec.study.imbalance.plan import Study, plan_study


def plan(*overrides: tuple[str, Any], path: Path | None = None, **fields: Any) -> Study:
    grid = Grid.model_validate({"compressions": ("a3w3",), "seeds": (0,), "profiles": ("linear",), **fields})
    return plan_study(path, overrides, grid, accelerator=Accelerator.CPU)


def keys(study: Study) -> dict[str, str]:
    return {run.title: run.key.key for run in study.runs}


def test_every_run_has_a_key_of_its_own() -> None:
    study = plan(profiles=("step", "linear"), minority=(2, 5), imbalance=(2, 10), seeds=(0, 1))
    assert len({run.key.key for run in study.runs}) == len(study.runs) == 2 * 2 * 7
    assert len({run.net.key for run in study.runs}) == 2 * 7


def test_a_grid_that_grows_keeps_the_keys_that_were_there() -> None:
    before, after = keys(plan()), keys(plan(imbalance=(10, 20), compressions=("a8w4", "a3w3"), seeds=(0, 1)))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": 50},
        *({"training": {name: value}} for name, value in (("steps", 9), ("epochs", 2), ("batch_size", 8))),
        *({"training": {name: value}} for name, value in (("learning_rate", 0.01), ("weight_decay", 0.0))),
    ],
)
def test_how_nets_are_trained_changes_every_key(fields: dict[str, Any]) -> None:
    before, after = keys(plan()), keys(plan(**fields))
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_steps_do_not_count_where_epochs_do() -> None:
    one, two = (plan(training={"epochs": 2, "steps": steps}) for steps in (5, 6))
    assert keys(one) == keys(two)


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("compress.flip", True, False),
        ("compress.shift", 0.0, False),
        ("model.arguments", {"classes": 10}, False),
        ("compress.steps", 3, True),
        ("data.few.total", 20, True),
        ("seed", 7, True),
        ("target", "jetson", True),
    ],
)
def test_of_the_config_only_what_takes_part_counts(name: str, value: Any, same: bool) -> None:
    assert (keys(plan()) == keys(plan((name, value)))) is same


def test_weights_and_images_that_are_not_used_need_not_be_there() -> None:
    absent = (("model.weights", "nowhere.safetensors"), ("data.ood", "nowhere"), ("data.calibration", "nowhere.npz"))
    assert keys(plan(*absent)) == keys(plan())


def test_an_unknown_setting_is_found_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"config: unknown key 'compress\.stpes'"):
        plan(("compress.stpes", 3))


def test_a_finished_graph_cannot_be_studied(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    image = {"height": 8, "width": 8, "channels": 1, "mean": [0.3], "std": [0.4]}
    with pytest.raises(UnsupportedError, match="is a finished graph, which cannot be trained"):
        plan(("model.name", str(tmp_path / "net.onnx")), ("model.input", image), ("data.ood_count", 60))
