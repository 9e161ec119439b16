"""The law of rounding: what lies within the range comes back within half a step, what lies outside at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import Ranges
from edgec.core.target import Quantization, Runtime, Scheme, Target
from edgec.quantize import quantize_model

SCHEMES = [("u8s8", "onnxruntime"), ("s8s8", "onnxruntime"), ("s8s8", "tensorrt")]


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    """A graph of one Gemm, whose input is rounded."""
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["input", "weight"], ["logits"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def quantized(path, scheme, engine, low, high):
    target = Target(
        name="test",
        title="Test",
        family="host",
        architecture="any",
        runtime=Runtime(engine=engine, opset=18),
        quantization=Quantization(scheme=Scheme(scheme)),
    )
    output = path.parent / f"{scheme}-{engine}.onnx"
    quantize_model(path, Ranges(bounds={"input": (low, high)}), target, output=output)
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(output).graph.initializer}


def round_trip(values, scale, zero_point):
    """Reference: QuantizeLinear and DequantizeLinear by their definition, in float64."""
    ends = np.iinfo(zero_point.dtype)
    scale, zero_point = float(scale), int(zero_point)
    return (np.clip(np.round(values / scale) + zero_point, ends.min, ends.max) - zero_point) * scale


@pytest.mark.parametrize(("scheme", "engine"), SCHEMES)
@given(low=st.floats(-1e3, 0, width=32), high=st.floats(0.0078125, 1e3, width=32), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_activation_comes_back_within_half_a_step(linear, scheme, engine, low, high, seed):
    constants = quantized(linear, scheme, engine, low, high)
    scale, zero_point = constants["input_scale"], constants["input_zero_point"]
    values = np.random.default_rng(seed).uniform(low, high, 1000)
    # The zero-point is rounded too, which moves an asymmetric range by up to half a step; beyond that a value clips.
    held = (values > low + scale / 2) & (values < high - scale / 2)
    error = np.abs(round_trip(values, scale, zero_point) - values)
    assert np.all(error[held] <= scale / 2 * (1 + 1e-6))
    assert np.all(error <= scale * (1 + 1e-6))
    assert round_trip(np.zeros(1), scale, zero_point) == 0


@pytest.mark.parametrize(("scheme", "engine"), SCHEMES)
def test_weight_comes_back_within_half_a_step_of_its_channel(linear, scheme, engine):
    constants = quantized(linear, scheme, engine, -1.0, 1.0)
    weight = numpy_helper.to_array(onnx.load(linear).graph.initializer[0])
    scale = constants["weight_scale"][:, None]
    error = np.abs(constants["weight_quantized"] * scale - weight)
    assert np.all(error <= scale / 2 * (1 + 1e-6))


@pytest.mark.parametrize(("scheme", "engine"), SCHEMES)
def test_value_outside_the_range_comes_back_at_its_end(linear, scheme, engine):
    constants = quantized(linear, scheme, engine, -2.0, 2.0)
    scale, zero_point = constants["input_scale"], constants["input_zero_point"]
    found = round_trip(np.array([-50.0, 50.0]), scale, zero_point)
    np.testing.assert_allclose(found, (-2, 2), atol=1.5 * float(scale))
