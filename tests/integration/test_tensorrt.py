"""Graphs for a Jetson, as builds ship them, before NVIDIA's parser and builder; and what a build says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torchvision.models import VisionTransformer
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock, ResNet

from edgec.calibrate import calibration_set, load_recipe, observe_ranges
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.core.target import load_target
from edgec.export import ahead
from edgec.export.ahead import prove
from edgec.export.lint import lint
from edgec.export.onnx import export_onnx
from edgec.package import open_bundle
from edgec.quantize import quantize_model
from edgec.runtime import Session

SPEC = InputSpec(height=32, width=32)
LABELS = tuple("0123456789")


def resnet() -> torch.nn.Module:
    """Identity shortcuts, and strided 1x1 ones."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


def mobilenet() -> torch.nn.Module:
    """Depthwise convolutions, squeeze-and-excitation, hard swish, residual additions."""
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 5, 48, 24, True, "HS", 2, 1, 1.0),
        InvertedResidualConfig(24, 5, 72, 24, True, "HS", 1, 1, 1.0),
    ]
    return MobileNetV3(blocks, last_channel=64, num_classes=10)


def transformer() -> torch.nn.Module:
    """Two blocks: products with weights, and products of two activations."""
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)


def shipped(module: torch.nn.Module, folder: Path, name: str) -> Path:
    """What a build would ship for this target: random weights, calibrated on noise."""
    target, recipe = load_target(name), load_recipe("balanced")
    fp32, output = folder / "fp32.onnx", folder / "model.onnx"
    export_onnx(Classifier(module=module.eval(), input=SPEC, labels=LABELS), fp32, opset=target.runtime.opset)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    noise = Samples(pixels=pixels, digests=tuple("abcd"), source="noise", labels=np.arange(4), classes=LABELS)
    none = noise.take(np.arange(0))
    chosen = calibration_set(noise, none, none.labels, recipe, seed=0)
    ranges = observe_ranges(fp32, chosen, recipe, target=target, feed=Session(fp32, SPEC).feed)
    quantize_model(fp32, ranges, target, output=output)
    return output


@pytest.mark.tensorrt
@pytest.mark.parametrize(
    ("make", "int8", "floats"),
    [
        (resnet, {"convolution": 12, "product": 1}, 0),
        (mobilenet, {"convolution": 16, "product": 2}, 0),
        # Of each block: queries, keys and values in one, the projection, two of the perceptron; then the head.
        (transformer, {"convolution": 1, "product": 9}, 4),
    ],
)
def test_every_weight_is_in_int8_and_attention_is_not(make, int8, floats, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    torch.manual_seed(0)
    model = shipped(make(), tmp_path, "jetson")
    assert lint(onnx.load(model), load_target("jetson")) == ()
    proof = prove(model, load_target("jetson"))
    assert (proof.proven, proof.int8, len(proof.floats)) == (True, int8, floats)


@pytest.mark.tensorrt
def test_the_graph_for_jetpack_5_stays_in_its_opset_and_in_float32(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    torch.manual_seed(0)
    target = load_target("jetson-xavier-nx")
    model = onnx.load(shipped(resnet(), tmp_path, "jetson-xavier-nx"))
    assert [entry.version for entry in model.opset_import] == [17]
    assert {tensor.data_type for tensor in model.graph.initializer} & {onnx.TensorProto.FLOAT16} == set()
    assert lint(model, target) == ()
    assert prove(tmp_path / "model.onnx", target).proven


def test_a_build_tells_what_was_proven(digits: Any) -> None:
    check = digits.report["tensorrt"]
    if ahead.rtx_version() is None:
        assert not check["proven"]
        assert "tensorrt-rtx is not installed" in check["note"]
        assert check["note"] in " ".join(digits.report["notes"])
    else:
        assert check["proven"]
        assert sum(check["int8"].values()) > 0
        assert "without a GPU" in check["note"]
    plan = open_bundle(digits.bundle).manifest.runtime.build_plan
    assert plan is not None
    assert plan.check is not None
    assert plan.check.note == check["note"]
    assert check["note"] in (digits.bundle / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")


def test_without_the_package_a_build_goes_on_and_says_so(
    builder: Any, tmp_path: Path, plain_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "find_spec", lambda _: None)
    settings = ("--set", "compress.method=none", "--set", "data.ood_count=60")
    built = builder(tmp_path, "--target", "jetson", *settings, cache=plain_cache)
    assert not built.report["tensorrt"]["proven"]
    assert any("tensorrt-rtx is not installed" in note for note in built.report["notes"])
