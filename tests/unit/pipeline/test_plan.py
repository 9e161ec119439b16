"""The plan: a stage's key changes when, and only when, something that it is made from changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import ConfigError, DataError, UnsupportedError
from edgec.core.target import Scheme
from edgec.pipeline import plan as planning
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.embedded import WEIGHTS
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.student_view import training_robust
from onnx_files import FILES as ONNX_FILES
from onnx_files import REFUSED

ALL = [
    *("data", "teacher", "baseline", "few", "compress", "export", "calibrate", "quantize", "prove", "evaluate"),
    "package",
]
INPUT = {"height": 8, "width": 8, "channels": 1, "mean": [0.3], "std": [0.4]}
OOD = ("data.ood_count", 60)
"""A setting of the data: a model of one's own needs images of one's own, or this, which stands for the digits."""


def plan(*overrides: tuple[str, Any], accelerator: Accelerator = Accelerator.CPU) -> Plan:
    return plan_build(read_config(None, [("target", "jetson"), *overrides]), accelerator=accelerator)


def keys(plan: Plan) -> dict[str, str]:
    return {key.stage: key.key for key in stage_keys(plan)}


def changed(before: Plan, after: Plan) -> list[str]:
    """Stages of either plan whose key is not the same in the other, in order."""
    first, second = keys(before), keys(after)
    return [stage for stage in ALL if first.get(stage) != second.get(stage)]


def after(stage: str, *, without: str = "") -> list[str]:
    return [name for name in ALL[ALL.index(stage) :] if name != without]


class TestSettings:
    def test_equal_settings_give_equal_keys(self) -> None:
        assert changed(plan(), plan()) == []

    @pytest.mark.parametrize(
        ("name", "value", "stages"),
        [
            ("seed", 1, ALL),
            ("data.ood_count", 60, ALL),
            ("data.few.total", 60, ALL),
            ("model.labels", list("9876543210"), ALL),
            ("model.input.mean", [0.4], ALL),
            ("compress.steps", 3, after("baseline")),
            ("compress.keep_flops", 0.9, after("baseline")),
            ("compress.drop_blocks", 1, after("baseline")),
            ("compress.robust", "noise", after("baseline")),
            ("compress.keep_latency", 0.5, after("baseline")),
            ("compress.max_latency_ms", 0.5, after("baseline")),
            ("compress.mir.mix", "across", after("baseline")),
            ("compress.oefsmc.finetune.steps", 3, after("few")),
            ("compress.variant", "plain", after("compress")),
            ("compress.compare", ["few"], ["baseline", "evaluate", "package"]),
            ("compress.method", "none", after("baseline")),
            ("export.preprocess_in_graph", True, after("export")),
            ("export.adjust_logits", 0.5, after("export")),
            ("model.trained_on", [9, 8, 7, 6, 5, 4, 3, 2, 1, 1], after("export")),
            ("model.trained_on", "estimate", after("export")),
            ("calibrate.recipe", "minmax", after("calibrate")),
            ("quantize.scheme", "float32", after("calibrate")),
            ("gates.min_accuracy", 0.5, ["package"]),
            ("name", "other", ["package"]),
            ("package.release", 2, ["package"]),
            ("package.expires", date(2030, 1, 2), ["package"]),
        ],
    )
    def test_a_setting_changes_what_it_takes_part_in_and_what_follows(
        self, name: str, value: Any, stages: list[str]
    ) -> None:
        assert changed(plan(), plan((name, value))) == stages

    def test_robust_recovery_changes_what_is_trained_with_rounding_too(self) -> None:
        training = (("compress.method", "none"), ("quantize.train", True))
        noisy, own = ("compress.robust", "noise"), ("quantize.training.robust", "none")
        assert changed(plan(*training), plan(*training, noisy)) == after("quantize")
        assert training_robust(plan(*training, noisy).config) == "noise"
        assert training_robust(plan(("quantize.train", True), noisy, own).config) == "none"
        with pytest.raises(ConfigError, match="no student recovers"):
            plan(*training, noisy, own)
        with pytest.raises(ConfigError, match="not trained with rounding"):
            plan(("quantize.training.robust", "noise"))

    def test_a_setting_at_its_default_changes_nothing(self) -> None:
        assert changed(plan(), plan(("calibrate.recipe", "balanced"), ("compress.variant", "ours"))) == []

    def test_an_alias_of_the_target_changes_nothing(self) -> None:
        assert changed(plan(), plan(("target", "jetson-orin-nano-8gb"))) == []

    def test_a_target_shares_the_compression_with_one_of_the_same_channel_multiple(self) -> None:
        older = plan(("target", "jetson-xavier-nx"))
        assert older.target.rules == plan().target.rules
        assert older.target.runtime.opset != plan().target.runtime.opset
        assert changed(plan(), older) == after("export")
        assert changed(plan(), plan(("target", "x86-avx2"))) == after("baseline")

    def test_figures_of_the_target_matter_to_what_is_measured_alone(self, tmp_path: Path) -> None:
        profile = Path(planning.__file__).parents[3] / "targets" / "jetson-orin-nano-8gb.toml"
        faster = profile.read_text(encoding="utf-8").replace("bandwidth_gb_per_s = 68", "bandwidth_gb_per_s = 69")
        (tmp_path / "faster.toml").write_text(faster, encoding="utf-8")
        assert changed(plan(), plan(("target", str(tmp_path / "faster.toml")))) == ["evaluate", "package"]

    def test_figures_of_the_target_matter_to_a_budget_of_latency(self, tmp_path: Path) -> None:
        profile = Path(planning.__file__).parents[3] / "targets" / "jetson-orin-nano-8gb.toml"
        faster = profile.read_text(encoding="utf-8").replace("bandwidth_gb_per_s = 68", "bandwidth_gb_per_s = 69")
        (tmp_path / "faster.toml").write_text(faster, encoding="utf-8")
        budget = ("compress.keep_latency", 0.5)
        assert changed(plan(budget), plan(budget, ("target", str(tmp_path / "faster.toml")))) == after("baseline")

    def test_a_budget_of_latency_needs_a_target_with_figures(self) -> None:
        with pytest.raises(UnsupportedError) as caught:
            plan(("compress.keep_latency", 0.5), ("target", "host"))
        assert str(caught.value) == (
            "keep_latency: target 'host' has no compute figures, so its latency cannot be predicted"
        )
        assert caught.value.hint == (
            "set compress.keep_flops instead, or write a profile with a [compute] table: edgec targets fit"
        )
        assert plan(("compress.keep_latency", 0.5), ("target", "host"), ("compress.method", "none"))

    def test_the_accelerator_matters_to_training(self) -> None:
        assert changed(plan(), plan(accelerator=Accelerator.CUDA)) == after("teacher")

    def test_a_new_version_of_a_tool_makes_everything_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = plan()
        monkeypatch.setattr(planning, "tool_versions", lambda: {"torch": "99.0"})
        assert changed(before, plan()) == ALL

    def test_a_changed_line_of_the_tool_makes_everything_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = plan()
        monkeypatch.setattr(planning, "source_digest", lambda: "0" * 64)
        assert changed(before, plan()) == ALL


class TestInputs:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        """Three sources; planning looks at bytes alone."""
        for name in ("train", "test", "ood"):
            (tmp_path / "images" / name / "a").mkdir(parents=True)
            (tmp_path / "images" / name / "a" / "1.png").write_text(f"{name} 1")
            (tmp_path / "images" / name / "a" / "2.png").write_text(f"{name} 2")
        return tmp_path / "images"

    def of(self, images: Path, **model: Any) -> Plan:
        given = [(f"data.{name}", str(images / name)) for name in ("train", "test", "ood")]
        teacher = {"name": "edgec.models.digits:digits_net", "weights": str(WEIGHTS), "input": INPUT, **model}
        return plan(("model", teacher), ("compress.compare", ["plain", "few"]), *given)

    def test_a_moved_data_folder_changes_nothing(self, images: Path, tmp_path: Path) -> None:
        before = self.of(images)
        assert changed(before, self.of(images.rename(tmp_path / "moved"))) == []

    @pytest.mark.parametrize("name", ["train", "test", "ood"])
    def test_a_changed_image_changes_everything(self, images: Path, name: str) -> None:
        before = self.of(images)
        (images / name / "a" / "1.png").write_text("other")
        assert changed(before, self.of(images)) == ALL

    def test_a_renamed_class_changes_everything(self, images: Path) -> None:
        before = self.of(images)
        (images / "train" / "a").rename(images / "train" / "b")
        assert changed(before, self.of(images)) == ALL

    def test_moved_weights_change_nothing(self, images: Path, tmp_path: Path) -> None:
        moved = shutil.copy(WEIGHTS, tmp_path / "copy.safetensors")
        assert changed(self.of(images), self.of(images, weights=str(moved))) == []

    def test_other_weights_change_all_but_the_data(self, images: Path, tmp_path: Path) -> None:
        (tmp_path / "other.safetensors").write_bytes(b"other")
        assert changed(self.of(images), self.of(images, weights=str(tmp_path / "other.safetensors"))) == ALL[1:]

    def test_a_moved_onnx_model_changes_nothing_and_another_one_does(self, images: Path, tmp_path: Path) -> None:
        for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
            (tmp_path / f"{name}.onnx").write_bytes(data)
        first, moved, other = (self.of(images, name=str(tmp_path / f"{n}.onnx"), weights=None) for n in "abc")
        assert changed(first, moved) == []
        assert changed(first, other) == ["teacher", *after("export")]

    def test_the_file_that_holds_an_onnx_models_weights_counts(self, images: Path, tmp_path: Path) -> None:
        made = ONNX_FILES["external data, one file"].make(tmp_path)
        before = self.of(images, name=str(made), weights=None)
        made.with_name("model.onnx.data").write_bytes(b"other")
        assert changed(before, self.of(images, name=str(made), weights=None)) == ["teacher", *after("export")]

    @pytest.mark.parametrize("name", ["weights that are gone", "weights outside of the folder", "TorchScript"])
    def test_a_file_that_is_no_whole_onnx_model_is_refused_before_anything_runs(
        self, name: str, images: Path, tmp_path: Path
    ) -> None:
        make, words = REFUSED[name]
        with pytest.raises(DataError, match=words):
            self.of(images, name=str(make(tmp_path)), weights=None)

    def test_a_model_that_is_quantised_already_ships_as_it_is(self, images: Path, tmp_path: Path) -> None:
        made = str(ONNX_FILES["QDQ, symmetric int8"].make(tmp_path))
        found = self.of(images, name=made, weights=None)
        assert found.as_given
        assert (found.target.quantization.scheme, found.target.quantization.float_type) == (Scheme.S8S8, "float32")
        model = {"name": made, "input": INPUT}
        data = [(f"data.{split}", str(images / split)) for split in ("train", "test")]
        with pytest.raises(ConfigError, match="is quantised already, so it ships as it is") as caught:
            plan(("model", model), *data, OOD, ("quantize.equalize", True))
        assert "leave [quantize] out" in str(caught.value.hint)

    def test_the_code_of_an_architecture_counts(
        self, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", sys.path.copy())
        source = tmp_path / "nets_of_the_plan_test.py"
        source.write_text("def net(): ...\n")
        before = self.of(images, name="nets_of_the_plan_test:net")
        source.write_text("def net(): return 1\n")
        assert changed(before, self.of(images, name="nets_of_the_plan_test:net")) == ALL[1:]


class TestStages:
    def test_all_stages_stand_in_order(self) -> None:
        assert [key.stage for key in stage_keys(plan())] == ALL

    def test_without_compression_there_is_no_plain_one(self) -> None:
        stages = [key.stage for key in stage_keys(plan(("compress.method", "none")))]
        assert stages == [stage for stage in ALL if stage not in ("baseline", "few", "compress")]

    def test_an_onnx_model_is_not_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"\x08\x09")
        model = {"name": str(tmp_path / "m.onnx"), "input": INPUT}
        assert plan(("model", model), OOD, ("compress.compare", ["plain", "few"])).compresses is False

    def test_the_scheme_of_the_config_goes_before_the_target_s(self) -> None:
        assert plan(("quantize.scheme", "float16")).target.quantization.scheme.value == "float16"


class TestFaults:
    @pytest.mark.parametrize(
        ("overrides", "error", "message", "hint"),
        [
            ([("target", "jetsn")], ConfigError, "unknown target 'jetsn'; known: ", "did you mean 'jetson'?"),
            ([("target", "gone.toml")], ConfigError, "cannot read target profile 'gone.toml'", "check the path"),
            ([("calibrate.recipe", "balancd")], ConfigError, "unknown calibration recipe 'balancd'", "'balanced'?"),
            ([("model.weights", "gone.pt")], DataError, "weights: no such file or folder 'gone.pt'", "check the path"),
            ([("data.ood", "gone")], DataError, "ood: no such file or folder 'gone'", "check the path"),
            ([("data.train", "gone"), ("data.test", "gone")], ConfigError, "'model' is missing", "add 'model'"),
            (
                [("model", {"name": "gone.onnx", "input": INPUT}), OOD],
                DataError,
                "model: no such file or folder 'gone.onnx'",
                "check the path",
            ),
        ],
    )
    def test_what_is_not_there(
        self, overrides: list[tuple[str, Any]], error: type[Exception], message: str, hint: str
    ) -> None:
        with pytest.raises(error) as caught:
            plan(*overrides)
        assert message in str(caught.value)
        assert hint in str(getattr(caught.value, "hint", ""))

    def test_preprocessing_cannot_be_put_into_a_finished_graph(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"\x08\x09")
        model = {"name": str(tmp_path / "m.onnx"), "input": INPUT}
        with pytest.raises(ConfigError, match=r"preprocess_in_graph: the model '.*m\.onnx' is a finished graph"):
            plan(("model", model), OOD, ("export.preprocess_in_graph", True))

    @pytest.mark.parametrize("name", ["gone:net", "gone.below:net", ".relative:net", "__main__:net", "json.gone:net"])
    def test_an_architecture_that_is_not_there_is_left_to_its_loader(self, name: str) -> None:
        assert plan(("model", {"name": name, "input": INPUT}), OOD).model.name == name


PLANNED = """
import json, sys
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.plan import plan_build
stage_keys(plan_build(read_config(None, [("target", "jetson")]), accelerator=Accelerator.CPU))
print(json.dumps(sorted(sys.modules)))
"""


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    """A build that has nothing to do answers at once."""
    heavy = {"torch", "torchvision", "onnx", "onnxruntime", "sklearn", "lightning_fabric", "jinja2"}
    command = [sys.executable, "-c", PLANNED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not heavy & set(json.loads(done.stdout))


def test_arrays_are_all_that_the_digests_need(tmp_path: Path) -> None:
    """An `.npz` is planned by its bytes: nothing of it is read, so nothing of it can be wrong yet."""
    np.savez(tmp_path / "a.npz", images=np.zeros(1))
    assert plan(("data.ood", str(tmp_path / "a.npz"))).digests["ood"]


@pytest.mark.parametrize("name", ["alone:make", "ours.below.nets:make"])
def test_a_plan_runs_no_code_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is shown before anything runs; what the code says counts all the same."""
    module = tmp_path / Path(*name.partition(":")[0].split("."))
    package = module / "__init__.py" if module.name == "alone" else module.with_suffix(".py")
    package.parent.mkdir(parents=True)
    canary = f"import pathlib; pathlib.Path({str(tmp_path / 'canary')!r}).touch()\n"
    for folder in module.relative_to(tmp_path).parents[:-1]:
        (tmp_path / folder / "__init__.py").write_text(canary)
    package.write_text(canary)
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    given = {"name": name, "weights": "weights.safetensors", "labels": ["a", "b"], "input": INPUT}
    before = plan(("model", given), OOD)
    package.write_text(canary + "# other\n")
    assert "compress" in changed(before, plan(("model", given), OOD))
    assert not (tmp_path / "canary").exists()
