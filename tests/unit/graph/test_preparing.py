"""What preparing a graph rewrites, and that it computes what it computed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import prepare


def mean_net(path, *, axes, keepdims, opset=18):
    """A mean of an image or of its transpose, and a ReLU."""
    node = helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", keepdims=keepdims)
    constants = []
    if opset < 18:
        node.attribute.append(helper.make_attribute("axes", axes))
    else:
        node.input.append("axes")
        constants.append(numpy_helper.from_array(np.array(axes), "axes"))
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["input"], ["x"]), node, helper.make_node("Relu", ["mean"], ["logits"])],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 6, 5, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def logits(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(3, 6, 5, 4)).astype(np.float32)
    return session.run(None, {"input": image})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_all_pixels_becomes_a_pooling(tmp_path, opset, axes, keepdims):
    path = mean_net(tmp_path / "net.onnx", axes=axes, keepdims=keepdims, opset=opset)
    prepared = prepare(path)
    pooling = ["GlobalAveragePool"] if keepdims else ["GlobalAveragePool", "Flatten"]
    assert operators(prepared) == ["Sigmoid", *pooling, "Relu"]
    assert "mean" in {name for node in prepared.graph.node for name in node.output}
    # Both add the same twenty numbers, in another order.
    np.testing.assert_allclose(logits(prepared.SerializeToString()), logits(path.read_bytes()), rtol=1e-6)


@pytest.mark.parametrize("axes", [[1], [2], [1, 2, 3]], ids=str)
def test_any_other_mean_stays(tmp_path, axes):
    prepared = prepare(mean_net(tmp_path / "net.onnx", axes=axes, keepdims=1))
    assert operators(prepared) == ["Sigmoid", "ReduceMean", "Relu"]


def test_weights_are_not_read_in_the_search_for_axes(tmp_path, monkeypatch):
    """A list of ten million weights takes a minute."""
    read = []
    to_array = numpy_helper.to_array
    monkeypatch.setattr(numpy_helper, "to_array", lambda tensor: read.append(tensor.name) or to_array(tensor))
    mean, weights = np.array([2, 3]), np.ones((2, 6, 1, 1), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "weights"], ["x"]),
            helper.make_node("ReduceMean", ["x", "axes"], ["logits"], keepdims=0),
        ],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 6, 5, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(mean, "axes"), numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    assert operators(prepare(path)) == ["Conv", "GlobalAveragePool", "Flatten"]
    assert read == ["axes"]


def masked_net(path, mask, *, shown=False):
    """A softmax of a masked image, in another shape; `shown` gives out what it gets, too."""
    floats = [("mask", np.asarray(mask, np.float32)), ("four", np.array([-1, 5, 4]))]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["input", "mask"], ["sum"]),
            helper.make_node("Reshape", ["sum", "four"], ["flat"]),
            helper.make_node("Softmax", ["flat"], ["logits"], axis=-1),
        ],
        "masked",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 6, 5, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "sum")[: 1 + shown]],
        [numpy_helper.from_array(values, name) for name, values in floats],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def added(prepared):
    (mask,) = (numpy_helper.to_array(each) for each in prepared.graph.initializer if each.name == "mask")
    return mask.tolist()


def test_what_a_mask_hides_weighs_nothing(tmp_path):
    path = masked_net(tmp_path / "net.onnx", [0, -100, 0, -100])
    prepared = prepare(path)
    assert added(prepared) == [0, -1e4, 0, -1e4]
    before, after = logits(path.read_bytes()), logits(prepared.SerializeToString())
    if not before[..., 1].any():
        pytest.skip("onnxruntime computes no subnormal numbers on this CPU")
    assert np.abs(before).min() < np.finfo(np.float32).smallest_normal
    assert not after[..., 1].any()
    np.testing.assert_array_equal(after[..., ::2], before[..., ::2])


@pytest.mark.parametrize("values", [[0, -5, 0, -5], [1, -100, 0, -100], [-200, -100, 3, 4]], ids=str)
def test_what_is_no_mask_stays(tmp_path, values):
    assert added(prepare(masked_net(tmp_path / "net.onnx", values))) == values


def test_a_mask_that_is_seen_elsewhere_stays(tmp_path):
    assert added(prepare(masked_net(tmp_path / "net.onnx", [0, -100, 0, -100], shown=True))) == [0, -100, 0, -100]


@pytest.mark.parametrize("shape", [(1, 3), (1, 1), (1,), ()])
@pytest.mark.parametrize("shared", [False, True])
def test_every_linear_layer_has_a_bias_of_one_dimension(tmp_path, shape, shared):
    """Training with rounding and onnxruntime's quantiser take no other; one that two layers share fits both."""
    rng = np.random.default_rng(0)
    bias = rng.normal(0, 1, shape).astype(np.float32)
    constants = {"first": rng.normal(0, 1, (4, 3)), "second": rng.normal(0, 1, (3, 3)), "b": bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["input", "first", "b"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "second", *(["b"] if shared else [])], ["logits"], transB=1),
        ],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in constants.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    prepared = prepare(path)
    sizes = {each.name: list(each.dims) for each in prepared.graph.initializer}
    assert [sizes[node.input[2]] for node in prepared.graph.node if len(node.input) == 3] == [[3]] * (1 + shared)
    images = rng.normal(0, 1, (5, 4)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for each in (path.read_bytes(), prepared.SerializeToString())
    )
    np.testing.assert_array_equal(after, before)
