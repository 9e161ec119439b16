"""Int8 with the rest in float16."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import load_recipe, observe_ranges
from edgec.core.inputs import InputSpec
from edgec.quantize import quantize_model
from edgec.quantize.float_type import with_rest_in_float16
from edgec.runtime import Session

SPEC = InputSpec(height=8, width=8)


@pytest.fixture
def written(net, target, feeds, calibration, tmp_path):
    """Quantises a variant of the net, with this rest, and gives its path."""

    def write(rest, **variant):
        chosen = target("s8s8", "tensorrt", float_type=rest)
        source, output = net(**variant), tmp_path / f"{rest}.onnx"
        ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[False])
        facts = quantize_model(source, ranges, chosen, output=output)
        return output, facts

    return write


def test_everything_inside_is_int8_or_float16_and_the_ends_are_float32(written):
    path, facts = written("float16")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert kinds == {TensorProto.FLOAT16, TensorProto.INT8}
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert facts.opset == 19


def test_the_same_operators_are_in_int8(written):
    single, half = written("float32")[1], written("float16")[1]
    assert half.int8_operators == single.int8_operators == {"Conv": 6, "Gemm": 1}
    assert half.float_operators == {}


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_logits_stay_what_they_were_whatever_opset_was_given(written, feeds, calibration, opset):
    tensor = feeds[False](calibration.pixels)
    single, half = (Session(written(rest, opset=opset)[0], SPEC).logits(tensor) for rest in ("float32", "float16"))
    # An activation that crosses a boundary between two integers moves by one step, 1/127 of the largest.
    assert np.abs(half - single).max() < 0.02 * np.abs(single).max()


def test_a_scale_below_float16_does_not_become_0(written):
    path, _ = written("float16", dead=(2,))
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert {scale.dtype for scale in scales} == {np.dtype(np.float16)}
    assert all((scale > 0).all() for scale in scales)


def test_a_reduction_of_an_older_opset_is_raised_as_well():
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    nodes = [helper.make_node("ReduceMean", ["input"], ["logits"], axes=[2, 3], keepdims=0)]
    graph = helper.make_graph(nodes, "mean", [source], [logits])
    older = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = with_rest_in_float16(older)
    onnx.checker.check_model(model, full_check=True)
    pixels = np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4)
    got = Session(model.SerializeToString(), InputSpec(height=4, width=4)).logits(pixels)
    # The largest mean is 87.5, of which 11 bits keep 1/16.
    np.testing.assert_allclose(got, pixels.mean(axis=(2, 3)), atol=1 / 16)


@pytest.mark.tensorrt
def test_tensorrt_sees_int8_everywhere(written, target):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from edgec.export.ahead import prove

    proof = prove(written("float16")[0], target("s8s8", "tensorrt"))
    assert (proof.proven, proof.int8) == (True, {"convolution": 6, "product": 1})
