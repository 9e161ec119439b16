"""Predicted latency: the formula by hand, and the laws that any prediction must keep."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.core.compute import Compute, Efficiency, Fill, Fitted
from edgec.core.errors import UnsupportedError
from edgec.core.measurement import Kind, Stage
from edgec.core.target import Scheme, known_targets, load_target
from edgec.latency.roofline import Precision, padded, predict_latency
from edgec.latency.workload import OperatorClass

SUPER = load_target("jetson-orin-nano-8gb-super")
PLAIN = Compute(
    fp32_tflops=1,
    fp16_tflops=2,
    int8_tops=4,
    bandwidth_gb_per_s=10,
    floor_us=7,
    efficiency=Efficiency(dense=0.5, pointwise=0.25, depthwise=0.1, elementwise=0.01),
)
SINGLE = SUPER.quantization.model_copy(update={"float_type": "float32"})
DEVICE = SUPER.model_copy(update={"compute": PLAIN, "title": "A device", "quantization": SINGLE})

any_size = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def on(compute: Compute, *, scheme: Scheme = Scheme.S8S8):
    quantization = DEVICE.quantization.model_copy(update={"scheme": scheme})
    return DEVICE.model_copy(update={"compute": compute, "quantization": quantization})


def chain(path, channels, *, kernel=3, quantized=False, size=16):
    """Convolutions one after the other, float or with Q/DQ, from 3 channels through those given."""
    constants = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes, tensor, inward = [], "x", 3
    for index, outward in enumerate(channels):
        factors = [tensor, f"w{index}"]
        shape = (outward, inward, kernel, kernel)
        constants.append(numpy_helper.from_array(np.ones(shape, np.int8 if quantized else np.float32), f"w{index}"))
        if quantized:
            nodes.append(helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"q{index}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{index}", "scale", "zero"], [f"a{index}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"w{index}", "scale", "zero"], [f"v{index}"]))
            factors = [f"a{index}", f"v{index}"]
        nodes.append(helper.make_node("Conv", factors, [f"c{index}"], name=f"conv{index}", pads=[kernel // 2] * 4))
        tensor, inward = f"c{index}", outward
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_two_convolutions_by_hand(path):
    prediction = predict_latency(chain(path, [64, 8]), DEVICE)
    first_macs, second_macs = 256 * 64 * 27, 256 * 8 * 64 * 9
    first_bytes = 4 * (256 * 3 + 64 * 27 + 256 * 64)
    second_bytes = 4 * (256 * 64 + 8 * 64 * 9 + 256 * 8)
    # 1 TFLOPS at half efficiency is 5e8 operations a ms; 10 GB/s is 1e7 bytes a ms.
    expected = [
        max(2 * macs / 5e8, moved / 1e7) + 0.007
        for macs, moved in ((first_macs, first_bytes), (second_macs, second_bytes))
    ]
    by_name = {cost.name: cost for cost in prediction.operators}
    assert [by_name["conv0"].latency_ms, by_name["conv1"].latency_ms] == pytest.approx(expected)
    assert (by_name["conv0"].macs, by_name["conv0"].moved_bytes) == (first_macs, first_bytes)
    assert prediction.latency_ms == pytest.approx(sum(expected))


def test_with_a_cache_weights_are_read_before_anything_is_computed(path):
    compute = PLAIN.model_copy(update={"cache_gb_per_s": 1000})
    (cost,) = predict_latency(chain(path, [64]), on(compute)).operators
    # Nothing but weights comes from memory: 10 GB/s is 1e7 bytes a ms.
    assert cost.latency_ms == pytest.approx(4 * 64 * 27 / 1e7 + 2 * 256 * 64 * 27 / 5e8 + 0.007)


def test_int8_wastes_by_parameters_of_its_own(path):
    compute = PLAIN.model_copy(update={"bandwidth_gb_per_s": 1e6, "floor_us": 0, "fill": Fill(per_output=9)})
    rounds = compute.model_copy(update={"int8_fill": Fill(per_output=27)})
    by_all, by_int8 = (
        next(cost for cost in predict_latency(chain(path, [64], quantized=True), on(c)).operators if cost.macs)
        for c in (compute, rounds)
    )
    assert by_int8.latency_ms / by_all.latency_ms == pytest.approx((27 + 27) / (27 + 9))


def test_an_operator_may_take_more_than_is_assumed_of_it(path):
    nodes = [helper.make_node("Softmax", ["x"], ["y"])]
    shape = ["n", 3, 16, 16]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "softmax", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    free = PLAIN.model_copy(update={"floor_us": 0, "bandwidth_gb_per_s": 1e6})
    twice = free.model_copy(update={"effort": {"Softmax": 2.0}, "int8_effort": {"Softmax": 5.0}})
    assumed, told = (predict_latency(path, on(compute)).latency_ms for compute in (free, twice))
    assert told == pytest.approx(2 * assumed)


def test_operators_come_slowest_first(path):
    costs = predict_latency(chain(path, [4, 64, 8, 32]), DEVICE).operators
    assert [cost.latency_ms for cost in costs] == sorted((cost.latency_ms for cost in costs), reverse=True)


def test_a_prediction_becomes_a_measurement_that_says_so(path):
    prediction = predict_latency(chain(path, [8]), DEVICE, batch=4)
    row = prediction.measurement(Stage.ARTIFACT)
    assert (row.stage, row.name, row.unit, row.where) == (Stage.ARTIFACT, "latency_ms_p50", "ms", "A device")
    assert (row.kind, row.n, row.low, row.high) == (Kind.PREDICTED, 0, None, None)
    assert row.value == prediction.latency_ms
    assert prediction.batch == 4


@pytest.mark.parametrize(
    ("update", "bound_by"),
    [
        ({"floor_us": 1e6}, "floor"),
        ({"bandwidth_gb_per_s": 1e-3, "floor_us": 0}, "memory"),
        ({"fp32_tflops": 1e-4, "floor_us": 0}, "compute"),
    ],
)
def test_what_bounds_an_operator_is_told(path, update, bound_by):
    (cost,) = predict_latency(chain(path, [8]), on(PLAIN.model_copy(update=update))).operators
    assert cost.bound_by == bound_by


@pytest.mark.parametrize(
    ("quantized", "scheme", "int8_tops", "precision"),
    [
        (True, Scheme.S8S8, 4, Precision.INT8),
        (True, Scheme.FLOAT16, None, Precision.FP16),
        (True, Scheme.FLOAT32, None, Precision.FP32),
        (False, Scheme.S8S8, 4, Precision.FP32),
        (False, Scheme.FLOAT16, 4, Precision.FP16),
    ],
)
def test_precision_follows_graph_scheme_and_device(path, quantized, scheme, int8_tops, precision):
    target = on(PLAIN.model_copy(update={"int8_tops": int8_tops}), scheme=scheme)
    (cost,) = predict_latency(chain(path, [8], quantized=quantized), target).operators
    assert cost.precision is precision


def test_without_int8_units_q_and_dq_change_nothing(tmp_path):
    target = on(PLAIN.model_copy(update={"int8_tops": None}), scheme=Scheme.FLOAT16)
    plain = predict_latency(chain(tmp_path / "plain.onnx", [8, 16]), target)
    quantized = predict_latency(chain(tmp_path / "quantized.onnx", [8, 16], quantized=True), target)
    assert quantized.latency_ms == plain.latency_ms


def test_a_device_without_sixteen_bits_runs_half_graphs_at_its_float32_peak(path):
    model = onnx.load(chain(path, [8]))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float16), "w0"))
    onnx.save(model, path)
    (half,) = predict_latency(path, DEVICE).operators
    (single,) = predict_latency(path, on(PLAIN.model_copy(update={"fp16_tflops": None}))).operators
    assert (half.precision, single.precision) == (Precision.FP16, Precision.FP32)
    assert half.moved_bytes == single.moved_bytes == 2 * (256 * 3 + 8 * 27 + 256 * 8)


@any_size
@given(
    channels=st.lists(st.integers(1, 96), min_size=1, max_size=4),
    extra=st.integers(0, 32),
    position=st.integers(0, 3),
    quantized=st.booleans(),
    kernel=st.sampled_from([1, 3]),
)
def test_more_channels_are_never_faster(tmp_path, *, channels, extra, position, quantized, kernel):
    wider = list(channels)
    wider[position % len(channels)] += extra
    small = predict_latency(chain(tmp_path / "a.onnx", channels, kernel=kernel, quantized=quantized), SUPER)
    large = predict_latency(chain(tmp_path / "b.onnx", wider, kernel=kernel, quantized=quantized), SUPER)
    assert large.latency_ms >= small.latency_ms


@any_size
@given(channels=st.lists(st.integers(1, 96), min_size=1, max_size=3), batch=st.integers(2, 16))
def test_a_batch_takes_longer_than_one_image_and_no_longer_than_as_many(tmp_path, channels, batch):
    model = chain(tmp_path / "a.onnx", channels)
    one, many = (predict_latency(model, SUPER, batch=size).latency_ms for size in (1, batch))
    # Sums of up to three floats in another order.
    assert one * (1 - 1e-12) <= many <= batch * one * (1 + 1e-12)


@any_size
@given(
    channels=st.lists(st.integers(1, 96), min_size=1, max_size=3),
    field=st.sampled_from(["fp32_tflops", "fp16_tflops", "int8_tops", "bandwidth_gb_per_s"]),
    quantized=st.booleans(),
)
def test_a_faster_device_is_never_slower(tmp_path, channels, field, quantized):
    model = chain(tmp_path / "a.onnx", channels, quantized=quantized)
    faster = on(PLAIN.model_copy(update={field: 2 * getattr(PLAIN, field)}))
    assert predict_latency(model, faster).latency_ms <= predict_latency(model, DEVICE).latency_ms


@any_size
@given(channels=st.lists(st.integers(1, 96), min_size=1, max_size=4))
def test_every_operator_pays_the_floor(tmp_path, channels):
    prediction = predict_latency(chain(tmp_path / "a.onnx", channels), DEVICE)
    assert len(prediction.operators) == len(channels)
    assert prediction.latency_ms >= len(channels) * PLAIN.floor_us / 1e3


def test_eight_bits_are_faster_than_thirty_two_where_there_are_units_for_them(tmp_path):
    for target in known_targets().values():
        if target.compute and target.compute.int8_tops:
            single = predict_latency(chain(tmp_path / "a.onnx", [128, 128], size=32), target)
            byte = predict_latency(chain(tmp_path / "b.onnx", [128, 128], size=32, quantized=True), target)
            assert byte.latency_ms < single.latency_ms, target.name


def test_every_class_of_operator_has_an_efficiency():
    assert {kind.value for kind in OperatorClass} == set(Efficiency.model_fields)


def test_a_target_without_figures_is_refused(path):
    with pytest.raises(UnsupportedError, match="target 'host' has no compute figures") as caught:
        predict_latency(chain(path, [8]), load_target("host"))
    assert "[compute]" in caught.value.hint


def test_a_small_product_takes_the_time_of_a_larger_one_by_hand(path):
    fill = Fill(per_output=5, per_input=3, per_row=40, per_weight=10, fp32_step=16)
    target = on(PLAIN.model_copy(update={"fill": fill, "bandwidth_gb_per_s": 1e6}))
    (cost,) = predict_latency(chain(path, [40]), target).operators
    # 256 pixels, 40 outputs padded to 48, three channels padded to four, a window of nine.
    larger = 256 * 48 * 36 + 256 * 48 * 5 + 256 * 36 * 3 + 256 * 40 + 48 * 36 * 10
    assert cost.latency_ms == pytest.approx(2 * larger / 5e8 + 0.007)
    assert cost.padded == pytest.approx(48 * 4 / (40 * 3))
    assert cost.wasted == pytest.approx(larger / cost.macs)


@pytest.mark.parametrize(
    ("channels", "step", "expected"), [(3, 32, 4), (5, 8, 8), (32, 32, 32), (33, 32, 64), (7, 1, 7)]
)
def test_channels_are_padded_to_the_step_and_first_layers_to_four(channels, step, expected):
    assert padded(channels, step) == expected


def test_int8_has_efficiencies_of_its_own(path):
    own = Efficiency(dense=1, pointwise=1, depthwise=1, elementwise=1)
    model = chain(path, [64], quantized=True, size=64)
    nothing = {"floor_us": 0, "bandwidth_gb_per_s": 1e6}
    slow, fast = (
        predict_latency(model, on(PLAIN.model_copy(update={**nothing, "int8_efficiency": given}))).latency_ms
        for given in (None, own)
    )
    assert slow == pytest.approx(fast / PLAIN.efficiency.dense)


def test_three_by_three_convolutions_may_be_faster_than_other_dense_ones(path):
    winograd = PLAIN.efficiency.model_copy(update={"winograd": 1.0})
    update = {"efficiency": winograd, "floor_us": 0, "bandwidth_gb_per_s": 1e6}
    target = on(PLAIN.model_copy(update=update))
    three, five = (
        next(
            cost
            for cost in predict_latency(chain(path, [64, 64], kernel=kernel), target).operators
            if cost.name == "conv1"
        )
        for kernel in (3, 5)
    )
    assert (three.kind, five.kind) == (OperatorClass.WINOGRAD, OperatorClass.DENSE)
    assert five.latency_ms / five.macs == pytest.approx(2 * three.latency_ms / three.macs)


def test_what_is_no_matrix_product_runs_on_the_vector_units(path):
    model = onnx.load(chain(path, [3]))
    model.graph.node[0].attribute.append(helper.make_attribute("group", 3))
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.ones((3, 1, 3, 3), np.float32), "w0"))
    onnx.save(model, path)
    update = {"vector_tflops": 0.1, "floor_us": 0, "bandwidth_gb_per_s": 1e6}
    (cost,) = predict_latency(path, on(PLAIN.model_copy(update=update))).operators
    assert cost.kind is OperatorClass.RAGGED
    assert cost.latency_ms == pytest.approx(2 * cost.macs / (0.1e12 * PLAIN.efficiency.depthwise) * 1e3)


def test_the_interval_follows_from_the_spread(path):
    prediction = predict_latency(chain(path, [8]), on(PLAIN.model_copy(update={"spread": 0.1})))
    row = prediction.measurement(Stage.ARTIFACT)
    assert row.low == pytest.approx(row.value / np.exp(0.196))
    assert row.high == pytest.approx(row.value * np.exp(0.196))


SIZE_GMACS = 16 * 16 * 8 * 3 * 9 / 1e9
"""Of `chain(path, [8])`."""


@pytest.mark.parametrize(
    ("least", "most", "widths"),
    [
        (0.1, 10, 0),
        (1, 1, 0),
        (10, 100, 1),
        (100, 1000, 2),
        (0.01, 0.1, 1),
        (8, 8, 3),  # a single net has no range: a factor of two stands for one
    ],
)
def test_the_interval_widens_with_the_distance_to_the_nets_fitted_to(path, least, most, widths):
    fitted = Fitted(least_gmacs=least * SIZE_GMACS, most_gmacs=most * SIZE_GMACS)
    prediction = predict_latency(chain(path, [8]), on(PLAIN.model_copy(update={"spread": 0.1, "fitted": fitted})))
    assert np.log(prediction.high_ms / prediction.latency_ms) == pytest.approx(0.196 * (1 + widths), rel=1e-3)
    assert np.log(prediction.latency_ms / prediction.low_ms) == pytest.approx(0.196 * (1 + widths), rel=1e-3)


def test_every_fitted_profile_says_how_far_its_predictions_spread_and_for_which_nets():
    fitted = [target for target in known_targets().values() if target.family in ("jetson", "raspberry-pi")]
    assert all(target.compute.spread and target.compute.fitted for target in fitted)
