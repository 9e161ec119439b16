"""Where a config says no size of images, the model is asked; where it does not know, the hint can be pasted."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.cli.build import parse_setting
from edgec.core.errors import ConfigError, DataError
from edgec.core.inputs import InputSpec
from edgec.export.metadata import metadata_of
from edgec.models.config import ModelConfig
from edgec.pipeline.config import read_config

VIT = {"model_type": "vit", "image_size": 96, "num_channels": 3}


def onnx_file(folder: Path, shape: list[int | str], kind: int = TensorProto.FLOAT, **metadata: str) -> Path:
    """A graph with this input, and an initialiser among its inputs as old exporters have it."""
    taken = [
        helper.make_tensor_value_info("x", kind, shape),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]),
    ]
    given = [helper.make_tensor_value_info("y", kind, shape)]
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", taken, given, [weight])
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def bound(name: object, **given: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": str(name), **given})


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (["n", 3, 48, 64], (3, 48, 64)),
        ([1, 48, 64, 3], (3, 48, 64)),
    ],
)
def test_the_shape_of_a_graph_s_input_is_the_size(
    shape: list[int | str], wanted: tuple[int, ...], tmp_path: Path
) -> None:
    path = onnx_file(tmp_path, shape)
    config = bound(path)
    assert config.input.shape == wanted
    assert config.input_told == (
        f"model.input: height, width, channels from {path}, its input; mean and std are ImageNet's: nobody says others"
    )


def test_a_graph_that_takes_pixels_needs_no_mean(tmp_path: Path) -> None:
    config = bound(onnx_file(tmp_path, [1, 28, 28], TensorProto.UINT8))
    assert (config.input.shape, config.input.mean, config.input.std) == ((1, 28, 28), (0,), (1,))


def test_what_edgec_wrote_into_a_graph_is_read_back(tmp_path: Path) -> None:
    spec = InputSpec(height=40, width=30, mean=(0.5,) * 3, std=(0.25,) * 3, resize="letterbox", fill=(1, 2, 3))
    written = metadata_of(spec, ["a", "b"], preprocessing_in_graph=False)
    assert bound(onnx_file(tmp_path, ["n", 3, "h", "w"], **written)).input == spec


def test_a_size_in_the_config_leaves_the_model_unasked(tmp_path: Path) -> None:
    config = bound(onnx_file(tmp_path, [1, 3, 48, 64]), input={"height": 32, "width": 32})
    assert config.input == InputSpec(height=32, width=32)
    assert config.input_told is None


def test_the_rest_of_the_config_goes_before_the_model(tmp_path: Path) -> None:
    config = bound(onnx_file(tmp_path, [1, 1, 48, 64]), input={"mean": [0.2], "std": [0.3]})
    assert config.input == InputSpec(height=48, width=64, channels=1, mean=(0.2,), std=(0.3,))
    assert "ImageNet" not in str(config.input_told)


def test_transformers_config_says_the_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(VIT))
    config = bound(f"transformers:{tmp_path}")
    assert config.input.shape == (3, 96, 96)
    assert "mean and std are ImageNet's: nobody says others" in str(config.input_told)


def test_timm_s_own_weights_say_how_they_were_trained() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    spec = bound("timm:vit_tiny_patch16_224").input
    assert (spec.shape, spec.mean, spec.crop_share) == ((3, 224, 224), (0.5,) * 3, 0.9)
    assert spec.interpolation == "bicubic"


def test_without_timm_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.models", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Exception, match="needs the package 'timm'") as caught:
        bound("timm:resnet18")
    assert getattr(caught.value, "hint", "") == "pip install 'edgec[timm]'"


@pytest.mark.parametrize(
    ("shape", "said", "wanted"),
    [
        (["n", 3, "h", "w"], "height and width", InputSpec(height=224, width=224)),
        ([1, 1, 28, 20], "mean and std", InputSpec(height=28, width=20, channels=1, mean=(0.5,), std=(0.5,))),
    ],
)
def test_the_hint_is_a_line_that_can_be_pasted(
    shape: list[int | str], said: str, wanted: InputSpec, tmp_path: Path
) -> None:
    path = onnx_file(tmp_path, shape)
    with pytest.raises(ConfigError, match=f"nobody says the {said} of the images") as caught:
        bound(path)
    setting = shlex.split(str(caught.value.hint).partition(", with")[0])
    assert setting[0] == "--set"
    pasted = read_config(None, [("model.name", str(path)), ("data.few.total", 9), parse_setting(setting[1])])
    assert pasted.model.input == wanted


def test_an_architecture_of_one_s_own_gets_no_preset() -> None:
    with pytest.raises(ConfigError) as caught:
        bound("nets:tiny")
    assert str(caught.value.hint).endswith("with the numbers that it was trained with")


def test_what_is_no_onnx_file_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x09\xff\xff")
    with pytest.raises(DataError, match="not a valid ONNX file"):
        bound(tmp_path / "net.onnx")
    with pytest.raises(DataError, match=r"no model file '.*gone\.onnx'"):
        bound(tmp_path / "gone.onnx")
