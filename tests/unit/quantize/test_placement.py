"""Where a graph is rounded, engine by engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import place, prepare


def placed(path, target, **how):
    return place(prepare(path), target, **how)


def test_onnxruntime_rounds_inputs_and_outputs_but_not_logits(net, target):
    placement = placed(net(), target("u8s8"))
    assert placement.tensors == ("input", "x", "a1_relu", "a2", "a_out", "b1_relu", "down", "b2", "b_out", "pooled")
    assert placement.kept == {"logits"}


def test_what_only_a_relu_reads_shares_its_range(net, target):
    shared = placed(net(), target("u8s8")).shared
    assert {name: shared[name] for name in ("stem", "a_sum")} == {"stem": "x", "a_sum": "a_out"}


def test_what_is_merely_moved_shares_the_range_of_its_source(net, target):
    assert placed(net(), target("u8s8")).shared["flat"] == "pooled"


def test_tensorrt_rounds_what_weighted_operators_take_and_the_shortcuts(net, target):
    placement = placed(net(), target("s8s8", "tensorrt"))
    assert placement.tensors == ("input", "x", "a1_relu", "a_out", "b1_relu", "down", "flat")
    assert placement.shortcuts == ("x", "down")
    assert not placement.rounds_outputs


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"])
def test_scaling_by_constants_stays_in_floating_point(net, target, engine):
    placement = placed(net(raw=True), target("s8s8", engine))
    assert "input" not in placement.tensors
    assert "centred" in placement.tensors


def test_batch_norm_is_folded_first(net):
    prepared = prepare(net(batch_norm=True))
    assert "BatchNormalization" not in {node.op_type for node in prepared.graph.node}


def test_preparing_keeps_opset_and_drops_the_exporters_notes(tmp_path, net):
    model = onnx.load(net(opset=17))
    model.doc_string = "written on some machine"
    model.graph.node[0].metadata_props.add(key="stack_trace", value="/home/somebody/net.py")
    onnx.save(model, tmp_path / "noted.onnx")
    prepared = prepare(tmp_path / "noted.onnx")
    assert [(entry.domain, entry.version) for entry in prepared.opset_import] == [("", 17)]
    assert b"some" not in prepared.SerializeToString()


def test_chain_of_moves_ends_where_it_began(tmp_path, target):
    shape = numpy_helper.from_array(np.array([0, -1]), "shape")
    weight = numpy_helper.from_array(np.ones((2, 8), "float32"), "weight")
    nodes = [
        helper.make_node("Conv", ["input", "filter"], ["made"]),
        helper.make_node("MaxPool", ["made"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["pooled"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["turned", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
    ]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2, 4, 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    point = numpy_helper.from_array(np.ones((2, 2, 1, 1), "float32"), "filter")
    graph = helper.make_graph(nodes, "moves", [source], [logits], [shape, weight, point])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m.onnx")
    placement = placed(tmp_path / "m.onnx", target("u8s8"))
    assert placement.shared == {"pooled": "made", "turned": "made", "flat": "made"}
    assert placement.tensors == ("input", "made")
    names = {node.output[0]: node.name for node in prepare(tmp_path / "m.onnx").graph.node}
    alone = placed(tmp_path / "m.onnx", target("u8s8"), floats=(names["made"],))
    assert (alone.tensors, alone.shared) == (("flat",), {})  # moved in floating point, rounded for the product alone


WINDOW = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def stem_and_next(tmp_path, *, kernel=3, groups=8, between="Relu"):
    """conv of an image, an operator, conv of eight channels, depthwise or not."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(size=(8, 3, kernel, kernel)).astype(np.float32),
        "next.weight": rng.normal(size=(8, 8 // groups, 3, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "stem.weight"], ["stem"], name="stem"),
            helper.make_node(between, ["stem"], ["x"], name="between", **({} if between == "Relu" else WINDOW)),
            helper.make_node("Conv", ["x", "next.weight"], ["logits"], name="next", group=groups),
        ],
        "two",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 8, 15 - kernel, 15 - kernel])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_small_first_convolution_before_a_depthwise_one_stays_in_floating_point_on_x86(tmp_path, target):
    placement = placed(stem_and_next(tmp_path), target("u8s8"))
    assert placement.excluded == ("stem",)
    assert "input" not in placement.tensors


@pytest.mark.parametrize(
    ("variant", "formats"),
    [
        ({"kernel": 5}, ("u8s8",)),
        ({"groups": 1}, ("u8s8",)),
        ({"between": "MaxPool"}, ("u8s8",)),
        ({}, ("s8s8",)),
        ({}, ("s8s8", "tensorrt")),
    ],
    ids=["many products", "no depthwise", "a pooling between", "Arm", "TensorRT"],
)
def test_any_other_first_convolution_is_rounded(tmp_path, target, variant, formats):
    placement = placed(stem_and_next(tmp_path, **variant), target(*formats))
    assert placement.excluded == ()
    assert "input" in placement.tensors


def test_operators_that_are_to_stay_in_floating_point_are_excluded(net, target):
    graph = prepare(net())
    name = next(node.name for node in graph.graph.node if node.output[0] == "b1")
    assert place(graph, target("s8s8", "tensorrt"), floats=(name,)).excluded == (name,)
