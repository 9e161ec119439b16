"""A small residual net as ONNX, and images to calibrate it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import CalibrationSet, load_recipe, observe_ranges, prepare
from edgec.core.target import Quantization, Runtime, Scheme, Target
from edgec.quantize.network import Network


def residual_net(
    *,
    opset: int = 18,
    batch: str | int = "batch",
    raw: bool = False,
    batch_norm: bool = False,
    dead: tuple[int, ...] = (),
    poison: bool = False,
) -> onnx.ModelProto:
    """conv, relu; a block with an identity shortcut; a block with a strided 1x1 shortcut; pooling and a Gemm.

    Args:
        opset: ONNX operator set.
        batch: A name for a batch of any size, or its size.
        raw: Takes values 0 to 255 and scales them inside.
        batch_norm: Leaves the first convolution's normalisation for others to fold.
        dead: All-zero channels of the first convolution, which have a bias.
        poison: One weight of the second convolution is NaN.
    """
    rng = np.random.default_rng(5)
    nodes, constants = [], {}

    def conv(source: str, name: str, shape: tuple[int, ...], stride: int = 1) -> str:
        constants[f"{name}.weight"] = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        pads, strides = [shape[2] // 2] * 4, [stride] * 2
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [name], pads=pads, strides=strides))
        return name

    def op(kind: str, inputs: list[str], output: str) -> str:
        nodes.append(helper.make_node(kind, inputs, [output]))
        return output

    source = "input"
    if raw:
        constants["scale"] = np.full((1, 3, 1, 1), 1 / 64, np.float32)
        constants["shift"] = np.full((1, 3, 1, 1), -2, np.float32)
        source = op("Add", [op("Mul", ["input", "scale"], "scaled"), "shift"], "centred")
    stem = conv(source, "stem", (8, 3, 3, 3))
    if batch_norm:
        constants |= {name: rng.uniform(0.5, 1.5, 8).astype(np.float32) for name in ("gamma", "beta", "mean", "var")}
        stem = op("BatchNormalization", [stem, "gamma", "beta", "mean", "var"], "normed")
    x = op("Relu", [stem], "x")
    a = op("Relu", [conv(x, "a1", (8, 8, 3, 3))], "a1_relu")
    x = op("Relu", [op("Add", [conv(a, "a2", (8, 8, 3, 3)), x], "a_sum")], "a_out")
    b = op("Relu", [conv(x, "b1", (16, 8, 3, 3), stride=2)], "b1_relu")
    shortcut = conv(x, "down", (16, 8, 1, 1), stride=2)
    x = op("Relu", [op("Add", [conv(b, "b2", (16, 16, 3, 3)), shortcut], "b_sum")], "b_out")
    flat = op("Flatten", [op("GlobalAveragePool", [x], "pooled")], "flat")
    constants["head.weight"] = rng.normal(size=(5, 16)).astype(np.float32)
    constants["head.bias"] = rng.normal(size=5).astype(np.float32)
    nodes.append(helper.make_node("Gemm", [flat, "head.weight", "head.bias"], ["logits"], transB=1))
    for channel in dead:
        constants["stem.weight"][channel] = 0
        constants["stem.bias"][channel] = 0.123
    if poison:
        constants["a1.weight"][0, 0, 0, 0] = np.nan
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Path]:
    """Writes a variant of the net and gives its path."""

    def write(**variant: object) -> Path:
        path = tmp_path / ("-".join(map(str, variant)) + "net.onnx")
        onnx.save(residual_net(**variant), path)
        return path

    return write


@pytest.fixture
def target() -> Callable[..., Target]:
    """A target with this scheme and engine."""

    def make(scheme: str, engine: str = "onnxruntime", *, opset: int = 18, **quantization: object) -> Target:
        return Target(
            name="test",
            title="Test",
            family="host",
            architecture="any",
            runtime=Runtime(engine=engine, opset=opset),
            quantization=Quantization(scheme=Scheme(scheme), **quantization),
        )

    return make


def feed(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 64 - 2


def feed_raw(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32)


@pytest.fixture
def feeds() -> tuple[Callable, Callable]:
    """From pixels to what the net takes, and to what its `raw` variant takes."""
    return feed, feed_raw


@pytest.fixture
def calibration() -> CalibrationSet:
    """37 smooth images: no multiple of any batch size."""
    rng = np.random.default_rng(11)
    small = rng.integers(0, 256, (37, 4, 4, 3), dtype=np.uint8)
    return CalibrationSet(
        pixels=small.repeat(2, axis=1).repeat(2, axis=2),
        labels=np.arange(37) % 5,
        weights=np.full(37, 1 / 37),
        is_ood=np.zeros(37, dtype=bool),
        digests=tuple(map(str, range(37))),
        classes=tuple("abcde"),
        recipe="test",
        sources=("test",),
    )


@pytest.fixture
def images(calibration: CalibrationSet) -> torch.Tensor:
    """The calibration images as the net takes them."""
    return torch.from_numpy(feed(calibration.pixels))


@pytest.fixture
def int4_network(
    net: Callable[..., Path], target: Callable[..., Target], calibration: CalibrationSet
) -> Callable[[], Network]:
    """The net with int4 weights for TensorRT, a new one every time."""
    source, chosen = net(), target("s8s8", "tensorrt", weight_bits=4)
    ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feed)
    return lambda: Network(prepare(source), ranges, chosen)
