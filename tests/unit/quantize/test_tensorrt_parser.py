"""NVIDIA's own parser and builder take our graphs, and see int8 at every convolution."""

from __future__ import annotations

import pytest

from edgec.calibrate import load_recipe, observe_ranges
from edgec.quantize import quantize_model

pytestmark = pytest.mark.tensorrt
trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


def parsed(data):
    """The network that TensorRT reads from a file's bytes; whatever holds it must stay alive."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    read = parser.parse(data)
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    return read, errors, network, builder, parser


@pytest.mark.parametrize("scheme", ["s8s8", "float16", "float32"])
@pytest.mark.parametrize("variant", [{}, {"dead": (2,)}, {"raw": True}, {"opset": 13}], ids=str)
def test_parser_and_builder_take_the_graph(net, target, feeds, calibration, tmp_path, scheme, variant):
    chosen, source, output = target(scheme, "tensorrt"), net(**variant), tmp_path / "out.onnx"
    feed = feeds[bool(variant.get("raw"))]
    ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feed)
    quantize_model(source, ranges, chosen, output=output)

    read, errors, network, builder, _parser = parsed(output.read_bytes())
    assert (read, errors) == (True, [])
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    made_by = {layer.get_output(i).name: layer.type for layer in layers for i in range(layer.num_outputs)}
    convolutions = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    int8 = (
        [
            layer
            for layer in convolutions
            if all(made_by.get(layer.get_input(i).name) == trt.LayerType.DEQUANTIZE for i in range(2))
        ]
        if scheme == "s8s8"
        else convolutions
    )
    assert len(int8) == len(convolutions) == 6

    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("input", (1, 3, 8, 8), (1, 3, 8, 8), (8, 3, 8, 8))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
