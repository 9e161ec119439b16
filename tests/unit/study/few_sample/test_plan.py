"""The plan of a study: a run's key changes with what it depends on, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.stages import compress, data
from edgec.study.few_sample.grid import Grid
from edgec.study.few_sample.plan import Study, general_methods, known_methods, plan_study


def plan(*overrides: tuple[str, Any], path: Path | None = None, **fields: Any) -> Study:
    grid = Grid.model_validate({"methods": ("mir",), "seeds": (0,), **fields})
    return plan_study(path, overrides, grid, accelerator=Accelerator.CPU)


def keys(study: Study) -> dict[str, str]:
    return {run.cell.variant.name: run.key.key for run in study.runs}


def test_every_run_has_a_key_of_its_own() -> None:
    study = plan(samples=(10, 50), imbalance=(1, 100), seeds=(0, 1), without=("nothing", "all"))
    assert len({run.key.key for run in study.runs}) == len(study.runs) == 2 * 2 * 2 * 7


def test_equal_studies_have_equal_keys() -> None:
    assert keys(plan()) == keys(plan())


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("compress.steps", 3, {"plain", "paper", "few", "ours"}),
        ("data.ood_count", 60, {"plain", "paper", "few", "ours"}),
        ("compress.mir.mix", "across", {"plain", "paper", "few", "ours"}),
        ("compress.oefsmc.held_out", 0.4, {"few", "ours"}),
        ("compress.compare", [], set()),
        ("compress.variant", "plain", set()),
        ("seed", 7, set()),
        ("data.few.total", 20, set()),
        ("gates.min_accuracy", 0.5, set()),
    ],
)
def test_a_setting_changes_the_runs_that_it_takes_part_in(name: str, value: Any, changed: set[str]) -> None:
    before, after = keys(plan()), keys(plan((name, value)))
    assert {variant for variant in before if before[variant] != after[variant]} == changed


def test_a_run_compresses_what_a_build_with_its_settings_would() -> None:
    settings = (("data.few.total", 20), ("seed", 3), ("compress.method", "mir"))
    build = plan_build(read_config(None, settings), accelerator=Accelerator.CPU)
    ours = plan(samples=(20,), seeds=(3,), variants=("ours",)).runs[0].plan
    assert (data.key(ours), compress.key(ours)) == (data.key(build), compress.key(build))


def test_the_profile_of_the_config_stays() -> None:
    study = plan(("data.few.profile", "step"))
    assert {run.plan.data.few.profile for run in study.runs if run.plan.data.few} == {"step"}


def test_tables_of_other_methods_may_stand_in_the_file(tmp_path: Path) -> None:
    others = "".join(f"[compress.{name}]\nnothing_known = 1\n" for name in known_methods() if name != "mir")
    (tmp_path / "edgec.toml").write_text(f'[compress.mir]\nmix = "across"\n{others}', encoding="utf-8")
    assert plan(path=tmp_path / "edgec.toml").runs[0].plan.config.compress.options == {"mix": "across"}


def test_methods_that_take_some_nets_alone_are_not_compared_unasked() -> None:
    assert set(known_methods()) - set(general_methods()) == {"learngene"}


def test_a_wrong_setting_of_a_method_is_found_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"\[compress\.mir\]: unknown key 'mixx'"):
        plan(("compress.mir.mixx", True))


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown compression method 'mire'; known: .*mir") as raised:
        plan(methods=("mire",))
    assert raised.value.hint == "did you mean 'mir'?"


def test_a_finished_graph_cannot_be_studied(tmp_path: Path) -> None:
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 8, 8]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "net", tensors[:1], tensors[1:])), tmp_path / "net.onnx"
    )
    image = {"height": 8, "width": 8, "channels": 1, "mean": [0.3], "std": [0.4]}
    with pytest.raises(UnsupportedError, match="is a finished graph, which cannot be compressed"):
        plan(("model.name", str(tmp_path / "net.onnx")), ("model.input", image), ("data.ood_count", 60))
