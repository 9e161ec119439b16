"""What is advised of a prediction: each cause by a net that has it, and nothing where nothing stands out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.compute import Compute, Efficiency, Fill, Fitted
from edgec.core.target import load_target
from edgec.latency.advice import advice_of, advise
from edgec.latency.roofline import predict_latency

PLAIN = Compute(
    fp32_tflops=1,
    int8_tops=4,
    bandwidth_gb_per_s=1e6,
    floor_us=0,
    efficiency=Efficiency(dense=0.5, pointwise=0.5, depthwise=0.02, elementwise=0.5),
)
DEVICE = load_target("raspberry-pi-5")


@pytest.fixture
def told(tmp_path):
    """The advice on a chain of convolutions, whole and operator by operator."""

    def make(channels, *, groups=1, size=32, **update):
        path, inward, tensor, nodes, weights = tmp_path / "model.onnx", channels[0], "x", [], []
        for number, outward in enumerate(channels[1:]):
            shape = (outward, 1 if groups > 1 else inward, 3, 3)
            weights.append(numpy_helper.from_array(np.ones(shape, np.float32), f"w{number}"))
            given = {"pads": [1] * 4, "group": inward if groups > 1 else 1}
            nodes.append(helper.make_node("Conv", [tensor, f"w{number}"], [f"c{number}"], **given))
            tensor, inward = f"c{number}", outward
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels[0], size, size])
        y = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "chain", [x], [y], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        compute = PLAIN.model_copy(update=update)
        prediction = predict_latency(path, DEVICE.model_copy(update={"compute": compute}))
        return advise(prediction, compute), [advice_of(cost, compute) for cost in prediction.operators]

    return make


def test_a_chain_of_tiny_layers_is_mostly_floor(told):
    whole, single = told([8] * 5, size=2, floor_us=20)
    assert whole == ("100% of the time is the floor of 4 operators, 20 µs each: fewer, wider layers",)
    assert single[0].startswith("mostly launch, 20 of 20 µs")


def test_a_net_far_smaller_than_those_fitted_to_is_said_to_be(told):
    fitted = Fitted(least_gmacs=0.3, most_gmacs=20)
    (first, *rest), _ = told([8] * 5, size=2, floor_us=20, fitted=fitted)
    assert first == (
        "the net is smaller than any that the prediction was fitted to, with 0.0092 million multiply-adds beside "
        "300 to 20,000: its interval is wider, measure it on the device"
    )
    assert rest == ["100% of the time is the floor of 4 operators, 20 µs each: fewer, wider layers"]


def test_nothing_is_said_of_a_net_as_large_as_those_fitted_to(told):
    whole, _ = told([64] * 3, fitted=Fitted(least_gmacs=0.001, most_gmacs=20))
    assert not any("fitted to" in text for text in whole)


def test_depthwise_convolutions_far_below_the_peak_are_named(told):
    whole, single = told([64, 64], groups=64)
    assert whole[0].startswith("1 depthwise convolutions take 100% of the time at 0.5% of the device's peak")
    assert single == ["depthwise at 0.5% of the device's peak: fewer channels here"]


def test_depthwise_convolutions_that_do_not_fill_registers_are_told_how_wide_to_be(told):
    ragged = PLAIN.efficiency.model_copy(update={"ragged": 0.008})
    whole, _ = told([60, 60], groups=60, efficiency=ragged)
    # 2.5 times as long as in whole registers: of that, three fifths are lost.
    assert whole[1] == (
        "60% of the time is lost by depthwise convolutions of channels that do not fill registers: "
        "choose widths that are multiples of 16, or set rules.depthwise_multiple = 16"
    )
    even, _ = told([64, 64], groups=64, efficiency=ragged)
    assert len(even) == 1


def test_channels_that_do_not_fill_the_units_are_told_what_they_count_as(told):
    whole, single = told([16, 12], fill=Fill(fp32_step=16))
    assert whole[0].startswith("25% of the time goes into padded channels: choose widths that are multiples of 16")
    assert single == ["12 channels computed as 16: multiples of 16 fill the units"]


def test_small_products_are_told_to_be_wider(told):
    _, single = told([16, 16], fill=Fill(per_weight=1024))
    assert single == ["too small to fill the device, 2.0 times the time per product: wider layers, fewer of them"]


def test_a_wait_for_memory_is_told_in_bytes(told):
    _, single = told([64, 64], bandwidth_gb_per_s=0.1)
    moved = 4 * (2 * 64 * 32 * 32 + 64 * 64 * 9)
    assert single == [f"waits for memory, {moved / 1e6:.3g} MB: fewer channels or pixels, or fewer bits"]


def test_a_float_product_is_reminded_of_int8(told):
    _, single = told([64, 64])
    assert single == ["computes in fp32: int8 has 4 times the peak"]


def test_nothing_is_said_where_nothing_stands_out(told):
    assert told([64, 64], int8_tops=None) == ((), [None])
