"""What is read off an ONNX graph: multiplications, bytes, number formats, and what is free."""

import itertools
import re

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import DataError, UnsupportedError
from edgec.latency.workload import OperatorClass, Traffic, read_workload

FLOAT, INT8 = TensorProto.FLOAT, TensorProto.INT8


def weight(name, *shape, dtype=np.float32):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs.split(), [output], name=f"the_{output}", **attributes)


def save(path, nodes, weights=(), *, shape=("n", 3, 8, 8), element=FLOAT, output_element=None):
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [helper.make_tensor_value_info("y", output_element or element, None)],
        list(weights),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def dequantized(name):
    """An int8 weight's DequantizeLinear."""
    return node("DequantizeLinear", f"{name} scale zero", f"{name}_dq")


def requantized(name):
    """Q and DQ behind an activation."""
    return [
        node("QuantizeLinear", f"{name} scale zero", f"{name}_q"),
        node("DequantizeLinear", f"{name}_q scale zero", f"{name}_dq"),
    ]


SCALES = (weight("scale"), weight("zero", dtype=np.int8))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_a_small_network_by_hand(path):
    nodes = [
        node("Conv", "x w0 b0", "c0", pads=[1, 1, 1, 1]),
        node("Relu", "c0", "r0"),
        node("Conv", "r0 w1", "c1", pads=[1, 1, 1, 1], strides=[2, 2], group=4),
        node("Conv", "c1 w2", "c2"),
        node("GlobalAveragePool", "c2", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w3 b3", "y", transB=1),
    ]
    weights = [
        weight("w0", 4, 3, 3, 3),
        weight("b0", 4),
        weight("w1", 4, 1, 3, 3),
        weight("w2", 8, 4, 1, 1),
        weight("w3", 10, 8),
        weight("b3", 10),
    ]
    work = read_workload(save(path, nodes, weights), batch=2)
    assert [(item.op_type, item.kind.value, item.macs, item.traffic.single) for item in work] == [
        ("Conv", "stem", 2 * 4 * 64 * 27, 2 * 3 * 64 + 108 + 4 + 2 * 4 * 64),
        ("Conv", "ragged", 2 * 4 * 16 * 9, 2 * 4 * 64 + 36 + 2 * 4 * 16),
        ("Conv", "pointwise", 2 * 8 * 16 * 4, 2 * 4 * 16 + 32 + 2 * 8 * 16),
        ("GlobalAveragePool", "elementwise", 0, 2 * 8 * 16 + 2 * 8),
        ("Gemm", "matmul", 2 * 10 * 8, 2 * 8 + 80 + 10 + 2 * 10),
    ]
    assert [item.name for item in work] == ["the_c0", "the_c1", "the_c2", "the_g", "the_y"]
    assert not any(item.quantized or item.half or item.fused for item in work)


@given(
    groups=st.integers(1, 3),
    inward=st.integers(1, 3),
    outward=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
    size=st.integers(3, 6),
    batch=st.integers(1, 3),
)
def test_macs_are_what_a_loop_over_the_convolution_counts(
    tmp_path_factory, *, groups, inward, outward, kernel, stride, pad, size, batch
):
    assume(size + 2 * pad >= kernel)
    nodes = [node("Conv", "x w", "y", group=groups, strides=[stride] * 2, pads=[pad] * 4)]
    weights = [weight("w", groups * outward, inward, kernel, kernel)]
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    (work,) = read_workload(save(path, nodes, weights, shape=("n", groups * inward, size, size)), batch=batch)

    corners = range(-pad, size + pad - kernel + 1, stride)
    counted = 0
    for _ in itertools.product(range(batch), range(groups), range(outward), corners, corners):
        for _ in itertools.product(range(inward), range(kernel), range(kernel)):
            counted += 1
    assert work.macs == counted


@pytest.mark.parametrize(
    ("given_node", "weights", "shape", "macs"),
    [
        (node("Gemm", "x w", "y"), [weight("w", 5, 7)], (3, 5), 3 * 5 * 7),
        (node("Gemm", "x w", "y", transB=1), [weight("w", 7, 5)], (3, 5), 3 * 5 * 7),
        (node("Gemm", "x w", "y", transA=1), [weight("w", 3, 7)], (3, 5), 3 * 5 * 7),
        (node("MatMul", "x w", "y"), [weight("w", 5, 7)], (3, 2, 5), 3 * 2 * 5 * 7),
        (node("ConvTranspose", "x w", "y", strides=[2, 2]), [weight("w", 5, 7, 2, 2)], (3, 5, 4, 4), 3 * 5 * 16 * 28),
        (node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2]), [], (3, 5, 4, 4), 0),
    ],
)
def test_macs_of_other_operators(path, given_node, weights, shape, macs):
    (work,) = read_workload(save(path, [given_node], weights, shape=shape), batch=3)
    assert work.macs == macs


def test_shape_arithmetic_constants_and_activations_are_free(path):
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c one one one one", "b"),
        node("Relu", "b", "r"),
        node("Shape", "r", "s"),
        node("Gather", "s zeroth", "n"),
        node("Concat", "n rest", "shape", axis=0),
        node("Reshape", "r shape", "flat"),
        node("Mul", "one one", "constant"),
        node("Clip", "flat", "y"),
    ]
    weights = [weight("w", 1, 3, 1, 1), weight("one", 1)]
    weights += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("zeroth", [0]), ("rest", [-1]))]
    work = read_workload(save(path, nodes, weights), batch=1)
    assert [item.op_type for item in work] == ["Conv"]


def test_a_residual_addition_goes_with_its_convolution(path):
    nodes = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Add", "c x", "a"), node("Relu", "a", "y")]
    convolution, addition = read_workload(save(path, nodes, [weight("w", 3, 3, 3, 3)]), batch=1)
    assert not convolution.fused
    assert addition.fused
    assert addition.traffic == Traffic(single=3 * 64)


def test_an_addition_of_something_used_twice_stands_alone(path):
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Add", "c x", "a"),
        node("Mul", "a c", "y"),
    ]
    _, addition, _ = read_workload(save(path, nodes, [weight("w", 3, 3, 3, 3)]), batch=1)
    assert not addition.fused
    assert addition.traffic == Traffic(single=3 * 3 * 64)


def test_q_and_dq_make_bytes(path):
    nodes = [
        *requantized("x"),
        dequantized("w"),
        node("Conv", "x_dq w_dq b", "c"),
        node("Relu", "c", "r"),
        *requantized("r"),
        dequantized("v"),
        node("Conv", "r_dq v_dq", "y"),
    ]
    weights = [weight("w", 4, 3, 1, 1, dtype=np.int8), weight("v", 2, 4, 1, 1, dtype=np.int8), weight("b", 4), *SCALES]
    first, second = read_workload(save(path, nodes, weights), batch=1)
    assert first.quantized
    assert first.traffic == Traffic(byte=3 * 64 + 12 + 4 * 64, single=4)
    assert second.quantized
    assert second.traffic == Traffic(byte=4 * 64 + 8, single=2 * 64)


def test_one_float_factor_keeps_a_convolution_in_floating_point(path):
    nodes = [*requantized("x"), node("Conv", "x_dq w", "y")]
    (work,) = read_workload(save(path, nodes, [weight("w", 4, 3, 1, 1), *SCALES]), batch=1)
    assert not work.quantized


def test_a_quantised_branch_is_written_in_bytes_through_its_addition(path):
    nodes = [
        *requantized("x"),
        dequantized("w"),
        node("Conv", "x_dq w_dq", "c"),
        node("Add", "c x_dq", "a"),
        node("QuantizeLinear", "a scale zero", "a_q"),
        node("DequantizeLinear", "a_q scale zero", "y"),
    ]
    weights = [weight("w", 3, 3, 1, 1, dtype=np.int8), *SCALES]
    convolution, addition = read_workload(save(path, nodes, weights), batch=1)
    assert convolution.traffic == Traffic(byte=3 * 64 + 9 + 3 * 64)
    assert addition.traffic == Traffic(byte=3 * 64)


def test_sixteen_bits_are_seen(path):
    weights = [weight("w", 4, 3, 1, 1, dtype=np.float16)]
    (work,) = read_workload(save(path, [node("Conv", "x w", "y")], weights, element=TensorProto.FLOAT16), batch=1)
    assert work.half
    assert work.traffic == Traffic(half=3 * 64 + 12 + 4 * 64)


def test_uint8_pixels_are_read_as_bytes(path):
    nodes = [node("Cast", "x", "f", to=FLOAT), node("Conv", "f w", "y")]
    save(path, nodes, [weight("w", 4, 3, 1, 1)], element=TensorProto.UINT8, output_element=FLOAT)
    cast, _ = read_workload(path, batch=1)
    assert cast.kind is OperatorClass.ELEMENTWISE
    assert cast.traffic == Traffic(byte=3 * 64, single=3 * 64)


def test_groups_of_several_channels_are_a_class_of_their_own(path):
    def kind(groups, channels):
        nodes, weights = [node("Conv", "x w", "y", group=groups)], [weight("w", 4 * groups, channels, 1, 1)]
        (work,) = read_workload(save(path, nodes, weights, shape=("n", groups * channels, 8, 8)), batch=1)
        return work.kind

    assert kind(2, 16) is OperatorClass.GROUPED
    assert kind(2, 24) is OperatorClass.NARROW
    assert kind(32, 1) is OperatorClass.DEPTHWISE
    assert kind(24, 1) is OperatorClass.RAGGED


def test_weights_are_the_part_of_the_traffic_that_no_image_changes(path):
    (work,) = read_workload(save(path, [node("Conv", "x w", "y")], [weight("w", 4, 3, 1, 1)]), batch=2)
    assert work.weights == Traffic(single=12)
    assert work.traffic == Traffic(single=2 * 3 * 64 + 12 + 2 * 4 * 64)


def test_noted_shapes_of_a_symbolic_batch_do_not_matter(path):
    nodes = [node("Conv", "x w", "c"), node("Conv", "c v", "y")]
    model = onnx.load(save(path, nodes, [weight("w", 4, 3, 1, 1), weight("v", 2, 4, 1, 1)]))
    model.graph.value_info.append(helper.make_tensor_value_info("c", FLOAT, ["n", 4, 8, 8]))
    onnx.save(model, path)
    assert [item.macs for item in read_workload(path, batch=5)] == [5 * 4 * 64 * 3, 5 * 2 * 64 * 4]


@pytest.mark.parametrize(
    ("shape", "batch", "message"),
    [
        ((1, 3, 8, 8), 2, "input 'x': fixed to a batch of 1, got 2"),
        (("n", 3, "height", 8), 1, "input 'x': dimension 2 is not fixed"),
        (("n", 3, 8, None), 1, "input 'x': dimension 3 is not fixed"),
    ],
)
def test_shapes_that_cannot_be_fixed_are_refused(path, shape, batch, message):
    save(path, [node("Conv", "x w", "y")], [weight("w", 4, 3, 1, 1)], shape=shape)
    with pytest.raises(UnsupportedError, match=re.escape(message)) as caught:
        read_workload(path, batch=batch)
    assert "dynamic batch" in caught.value.hint


def test_a_tensor_without_a_shape_is_refused(path):
    condition = numpy_helper.from_array(np.array([True, False, True]), "condition")
    save(path, [node("Compress", "x condition", "y", axis=1)], [condition])
    with pytest.raises(UnsupportedError, match="tensor 'y': its shape is not fixed by the graph"):
        read_workload(path, batch=1)


@pytest.mark.parametrize(("op_type", "domain"), [("LSTM", ""), ("QLinearConv", ""), ("FusedConv", "com.microsoft")])
def test_work_that_cannot_be_counted_is_refused(path, op_type, domain):
    save(path, [node(op_type, "x", "y", domain=domain)])
    name = f"{domain}.{op_type}".lstrip(".")
    with pytest.raises(UnsupportedError, match=re.escape(f"operator '{name}' (node 'the_y')")):
        read_workload(path, batch=1)


def test_an_impossible_graph_is_a_data_error(path):
    nodes = [node("MatMul", "x w", "y")]
    with pytest.raises(DataError, match=r"is not a valid ONNX graph: .*Incompatible dimensions"):
        read_workload(save(path, nodes, [weight("w", 5, 7)]), batch=1)


@pytest.mark.parametrize("content", [b"not a model", None])
def test_what_is_no_onnx_file_is_a_data_error(path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="is not a readable ONNX file"):
        read_workload(path, batch=1)


def test_an_empty_file_is_a_data_error(path):
    path.write_bytes(b"")
    with pytest.raises(DataError, match="holds no operators"):
        read_workload(path, batch=1)


def test_a_normalisation_that_no_product_takes_up_is_work(path):
    nodes = [
        node("Conv", "x w", "c"),
        node("Concat", "c x", "j", axis=1),
        node("BatchNormalization", "j five five five five", "b"),
        node("Relu", "b", "y"),
    ]
    work = read_workload(save(path, nodes, [weight("w", 2, 3, 1, 1), weight("five", 5)]), batch=1)
    assert [item.op_type for item in work] == ["Conv", "Concat", "BatchNormalization"]


def test_tensorrt_writes_into_a_concatenation_in_place(path):
    nodes = [node("Conv", "x w", "a"), node("Conv", "x v", "b"), node("Concat", "a b", "y", axis=1)]
    save(path, nodes, [weight("w", 2, 3, 1, 1), weight("v", 2, 3, 1, 1)])
    assert [item.op_type for item in read_workload(path, batch=1, engine="tensorrt")] == ["Conv", "Conv"]
    assert [item.op_type for item in read_workload(path, batch=1, engine="onnxruntime")] == ["Conv", "Conv", "Concat"]


def test_tensorrt_makes_one_kernel_of_pointwise_operators(path):
    nodes = [node("Mul", "x one", "a"), node("Add", "a one", "b"), node("Sqrt", "b", "y")]
    save(path, nodes, [weight("one", 1)])
    assert [item.fused for item in read_workload(path, batch=1, engine="tensorrt")] == [False, True, True]
    assert not any(item.fused for item in read_workload(path, batch=1, engine="onnxruntime"))


def test_onnxruntime_computes_an_activation_inside_a_product_that_nothing_else_reads(path):
    weights = [weight("w", 3, 3, 1, 1)]
    alone = [node("Conv", "x w", "c"), node("Sigmoid", "c", "y")]
    assert len(read_workload(save(path, alone, weights), batch=1, engine="onnxruntime")) == 1
    shared = [node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Sub", "c s", "y")]
    work = read_workload(save(path, shared, weights), batch=1, engine="onnxruntime")
    assert [item.op_type for item in work] == ["Conv", "Sigmoid", "Sub"]


def test_silu_is_one_operator_in_onnxruntime(path):
    nodes = [node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Mul", "c s", "y")]
    work = read_workload(save(path, nodes, [weight("w", 3, 3, 1, 1)]), batch=1, engine="onnxruntime")
    assert [item.op_type for item in work] == ["Conv", "Sigmoid"]


def test_gelu_is_one_operator_in_onnxruntime(path):
    nodes = [
        node("Div", "x root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "a"),
        node("Mul", "x a", "m"),
        node("Mul", "m half", "y"),
    ]
    weights = [weight("root"), weight("one"), weight("half")]
    work = read_workload(save(path, nodes, weights), batch=1, engine="onnxruntime")
    assert [item.op_type for item in work] == ["Erf"]


def test_q_and_dq_around_an_operator_without_integers_are_work(path):
    nodes = [*requantized("x"), node("HardSwish", "x_dq", "h"), *requantized("h"), node("Identity", "h_dq", "y")]
    work = read_workload(save(path, nodes, SCALES), batch=1, engine="onnxruntime")
    expected = ["QuantizeLinear", "DequantizeLinear", "HardSwish", "QuantizeLinear", "DequantizeLinear"]
    assert [item.op_type for item in work] == expected


def test_q_and_dq_around_integers_are_free(path):
    nodes = [*requantized("x"), node("Add", "x_dq x_dq", "a"), *requantized("a"), node("Identity", "a_dq", "y")]
    work = read_workload(save(path, nodes, SCALES), batch=1, engine="onnxruntime")
    assert [item.op_type for item in work] == ["QuantizeLinear", "Add", "DequantizeLinear"]
    assert work[1].runs_on_bytes


def test_an_operator_whose_result_is_not_rounded_computes_in_floating_point(path):
    nodes = [*requantized("x"), node("Add", "x_dq x_dq", "y")]
    work = read_workload(save(path, nodes, SCALES), batch=1, engine="onnxruntime")
    assert [item.op_type for item in work] == ["QuantizeLinear", "DequantizeLinear", "Add"]


def test_gelu_is_five_operators_where_the_sum_is_halved_first(path):
    nodes = [
        node("Div", "x root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "a"),
        node("Mul", "half a", "m"),
        node("Mul", "x m", "y"),
    ]
    weights = [weight("root"), weight("one"), weight("half")]
    assert len(read_workload(save(path, nodes, weights), batch=1, engine="onnxruntime")) == 5


def test_shapes_that_follow_from_indices_computed_of_the_batch_are_found(path):
    whole = {"first": 0, "step": 1, "axis": [1]}
    nodes = [
        node("Shape", "x", "s", start=0, end=1),
        node("Squeeze", "s", "n"),
        node("Range", "first n step", "rows"),
        node("Gather", "x rows", "g", axis=0),
        node("Conv", "g w", "y"),
    ]
    weights = [weight("w", 4, 3, 1, 1), *(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in whole.items())]
    gather, convolution = read_workload(save(path, nodes, weights), batch=5)
    assert gather.op_type == "Gather"
    assert convolution.macs == 5 * 4 * 64 * 3
