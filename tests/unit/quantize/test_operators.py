"""Operators in torch against ONNX' own reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgec.core.errors import UnsupportedError
from edgec.quantize.operators import operator_of

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(2, 4, 7, 6)).astype(np.float32)
MATRIX = RNG.normal(size=(2, 5)).astype(np.float32)
POSITIVE = np.abs(IMAGE) + 0.1


def weight(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


CASES = {
    "Add, broadcast": ("Add", [IMAGE, weight(4, 1, 1)], {}),
    "AveragePool, uneven padding": (
        "AveragePool",
        [IMAGE],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1},
    ),
    "BatchNormalization": ("BatchNormalization", [IMAGE, weight(4), weight(4), weight(4), np.abs(weight(4)) + 1], {}),
    "Cast": ("Cast", [IMAGE], {"to": TensorProto.INT64}),
    "Clip": ("Clip", [IMAGE, np.float32(-0.5), np.float32(0.7)], {}),
    "Clip, from above": ("Clip", [IMAGE, None, np.float32(0.7)], {}),
    "Clip, without ends": ("Clip", [IMAGE], {}),
    "Concat": ("Concat", [IMAGE, IMAGE], {"axis": 1}),
    "Conv": ("Conv", [IMAGE, weight(6, 4, 3, 3), weight(6)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "Conv, depthwise": ("Conv", [IMAGE, weight(4, 1, 3, 3)], {"group": 4, "kernel_shape": [3, 3]}),
    "Conv, one dimension": ("Conv", [IMAGE[..., 0], weight(6, 4, 3)], {"dilations": [2]}),
    "Conv, uneven padding": ("Conv", [IMAGE, weight(6, 4, 3, 3)], {"pads": [0, 1, 1, 0]}),
    "Expand": ("Expand", [MATRIX[:, :1], ints(3, 1, 4)], {}),
    "Flatten": ("Flatten", [IMAGE], {"axis": 2}),
    "Gather": ("Gather", [IMAGE, np.array([[0, -1]])], {"axis": 1}),
    "Gather, a scalar": ("Gather", [IMAGE, np.array(1)], {"axis": 0}),
    "Gelu, tanh": ("Gelu", [IMAGE], {"approximate": "tanh"}),
    "Gemm": ("Gemm", [MATRIX, weight(5, 3), weight(3)], {"alpha": 0.5, "beta": 2.0}),
    "Gemm, transposed": ("Gemm", [MATRIX, weight(3, 5)], {"transB": 1}),
    "GlobalAveragePool": ("GlobalAveragePool", [IMAGE], {}),
    "HardSigmoid": ("HardSigmoid", [IMAGE], {"alpha": 1 / 6}),
    "HardSwish": ("HardSwish", [IMAGE], {}),
    "Identity": ("Identity", [IMAGE], {}),
    "InstanceNormalization": ("InstanceNormalization", [IMAGE, weight(4), weight(4)], {"epsilon": 1e-3}),
    "LayerNormalization": ("LayerNormalization", [IMAGE, weight(6), weight(6)], {"epsilon": 1e-3}),
    "LeakyRelu": ("LeakyRelu", [IMAGE], {"alpha": 0.2}),
    "MatMul, batched": ("MatMul", [IMAGE, weight(6, 3)], {}),
    "MaxPool": ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "PRelu": ("PRelu", [IMAGE, weight(4, 1, 1)], {}),
    "Pad, a value": ("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(1.5)], {}),
    "Pad, edge": ("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    "Pow": ("Pow", [POSITIVE, np.float32(1.5)], {}),
    "Range": ("Range", [np.array(1), np.array(9), np.array(3)], {}),
    "ReduceMean": ("ReduceMean", [IMAGE, ints(2, 3)], {"keepdims": 0}),
    "ReduceMean, of all": ("ReduceMean", [IMAGE], {}),
    "Reshape, zero and minus one": ("Reshape", [IMAGE, ints(0, 2, -1)], {}),
    "Shape, a part": ("Shape", [IMAGE], {"start": 1, "end": 3}),
    "Slice": ("Slice", [IMAGE, ints(1, 0), ints(1000, -1), ints(2, -1), ints(2, 1)], {}),
    "Slice, from the first axis": ("Slice", [IMAGE, ints(0, 1), ints(1, 3)], {}),
    "Softmax": ("Softmax", [IMAGE], {"axis": 1}),
    "Split, even": ("Split", [IMAGE], {"axis": 1, "num_outputs": 2}),
    "Split, sizes": ("Split", [IMAGE, ints(1, 3)], {"axis": 1}),
    "Squeeze": ("Squeeze", [IMAGE[:, :1], ints(1)], {}),
    "Squeeze, whatever is one": ("Squeeze", [IMAGE[:, :1]], {}),
    "Transpose": ("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    "Transpose, reversed": ("Transpose", [IMAGE], {}),
    "Unsqueeze": ("Unsqueeze", [MATRIX, ints(-1, 0)], {}),
    "Where": ("Where", [IMAGE > 0, IMAGE, np.float32(0.25)], {}),
    **{name: (name, [IMAGE], {}) for name in ("Abs", "Erf", "Exp", "Neg", "Relu", "Sigmoid", "Softplus", "Tanh")},
    **{name: (name, [POSITIVE], {}) for name in ("Reciprocal", "Sqrt")},
    **{name: (name, [IMAGE, POSITIVE], {}) for name in ("Div", "Max", "Min", "Mul", "Sub")},
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_computes_what_onnx_says(case):
    kind, inputs, attributes = CASES[case]
    outputs = [f"out{i}" for i in range(2 if kind == "Split" else 1)]
    names = [f"in{i}" if value is not None else "" for i, value in enumerate(inputs)]
    node = helper.make_node(kind, names, outputs, **attributes)
    given = {name: value for name, value in zip(names, inputs, strict=True) if name}
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), None)
            for n, v in given.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    wanted = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])).run(None, given)
    found = operator_of(node)(*(torch.from_numpy(np.array(v)) if v is not None else None for v in inputs))
    for got, want in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
        # Sums in another order.
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)
        assert got.numpy().dtype == np.asarray(want).dtype


def test_axes_may_be_attributes_as_in_old_operator_sets():
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    np.testing.assert_allclose(operator_of(node)(torch.from_numpy(IMAGE)), IMAGE.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_uneven_padding_of_a_maximum_is_lower_than_any_value():
    # The reference evaluator pads the wrong axes here.
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    padded = np.pad(IMAGE, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    wanted = np.maximum.reduce([padded[:, :, i : i + 7, j : j + 6] for i in (0, 1) for j in (0, 1)])
    np.testing.assert_array_equal(operator_of(node)(torch.from_numpy(IMAGE)), wanted)


def test_an_operator_that_is_not_here_is_named():
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="the_node", hidden_size=3)
    with pytest.raises(UnsupportedError, match=r"node 'the_node': LSTM cannot be run in torch, expected .*Conv"):
        operator_of(node)


def test_an_attribute_that_would_be_passed_over_is_named():
    node = helper.make_node("AveragePool", ["x"], ["y"], name="n", kernel_shape=[2, 2], auto_pad="SAME_UPPER")
    with pytest.raises(UnsupportedError, match=r"node 'n': AveragePool with auto_pad = SAME_UPPER cannot"):
        operator_of(node)


def test_an_attribute_at_its_default_is_none():
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="NOTSET", storage_order=0)
    assert operator_of(node)(torch.from_numpy(IMAGE)).shape == (2, 4, 6, 5)
