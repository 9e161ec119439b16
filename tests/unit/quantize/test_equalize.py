"""Cross-layer equalisation: the same function, better spread weights."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.quantize.equalize import equalized

RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(3, 4, 6, 6)).astype(np.float32)


def chain(between="Relu", *, groups=1, branch=False):
    """conv a, something, conv b; with a branch a third convolution reads what lies between."""
    scales = np.geomspace(0.01, 100, 8).reshape(8, 1, 1, 1).astype(np.float32)
    constants = {
        "a": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32) * scales,
        "a_bias": RNG.normal(size=8).astype(np.float32),
        "b": RNG.normal(size=(8, 8 // groups, 3, 3)).astype(np.float32) / (scales if groups == 8 else 1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a", "a_bias"], ["y"]),
        helper.make_node(between, ["y"], ["z"]),
        helper.make_node("Conv", ["z", "b"], ["logits"], group=groups),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    if branch:
        nodes.append(helper.make_node("Sigmoid", ["z"], ["other"]))
        outputs.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4, 6, 6])
    graph = helper.make_graph(nodes, "chain", [x], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"x": IMAGES})[0]


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("groups", [1, 8])
def test_the_graph_computes_the_same_and_both_weights_reach_equally_far(groups):
    model = chain(groups=groups)
    found, pairs = equalized(model)
    assert pairs == 1
    np.testing.assert_allclose(run(found), run(model), rtol=1e-3, atol=1e-3)
    first, second = weights(found)["a"], weights(found)["b"]
    second = second if groups == 8 else second.swapaxes(0, 1)
    reach = [np.abs(weight).reshape(8, -1).max(1) for weight in (first, second)]
    np.testing.assert_allclose(*reach, rtol=1e-4)


@pytest.mark.parametrize("model", [chain("Sigmoid"), chain(branch=True)], ids=["no ReLU", "another reader"])
def test_what_does_not_scale_is_left_alone(model):
    found, pairs = equalized(model)
    assert pairs == 0
    assert found == model


def test_dead_channels_stay_dead():
    model = chain()
    dead = weights(model)["a"].copy()
    dead[3] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(dead, "a"))
    found, _ = equalized(model)
    assert not weights(found)["a"][3].any()
    assert all(np.isfinite(value).all() for value in weights(found).values())
