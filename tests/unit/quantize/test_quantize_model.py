"""Quantised graphs: what they hold, what they compute, and that they are the same every time."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgec.calibrate import Ranges, load_recipe, observe_ranges
from edgec.core.digest import digest_file
from edgec.core.errors import CalibrationError
from edgec.core.host import this_host
from edgec.quantize import quantize_model

INT8 = [("u8s8", "onnxruntime"), ("s8s8", "onnxruntime"), ("s8s8", "tensorrt")]
ALL = [*INT8, ("float16", "onnxruntime"), ("float32", "onnxruntime")]


@pytest.fixture
def quantized(net, target, feeds, calibration, tmp_path):
    """Quantises a variant of the net for a scheme and an engine: source, result, facts."""

    def run(scheme, engine="onnxruntime", *, quantization=None, **variant):
        source, chosen = net(**variant), target(scheme, engine, **(quantization or {}))
        feed = feeds[bool(variant.get("raw"))]
        ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feed)
        output = tmp_path / "out" / f"{scheme}-{engine}.onnx"
        return source, output, quantize_model(source, ranges, chosen, output=output)

    return run


def logits(path, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": images})[0]


def operators_run(path, tmp_path):
    """Operator types of the graph as onnxruntime runs it on Arm, where it takes int8 activations too."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)


def constants(path):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def roundings(path):
    """Of each rounded activation the scale and the zero-point."""
    known = constants(path)
    nodes = onnx.load(path).graph.node
    return {n.input[0]: (known[n.input[1]], known[n.input[2]]) for n in nodes if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize(("scheme", "engine"), ALL)
@pytest.mark.parametrize("variant", [{}, {"opset": 13}, {"raw": True}, {"batch_norm": True}, {"dead": (2,)}], ids=str)
def test_logits_stay_close_to_fp32(quantized, feeds, calibration, scheme, engine, variant):
    if (scheme, engine) == ("u8s8", "onnxruntime") and this_host().saturates:
        pytest.skip("pairs of 8-bit products saturate on this CPU, which has no VNNI")
    source, output, _ = quantized(scheme, engine, **variant)
    images = feeds[bool(variant.get("raw"))](calibration.pixels)
    before, after = logits(source, images), logits(output, images)
    # 8 bits give each of five layers an error of about 1/256 of its range; measured 0.4 to 1.5 %.
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.03 * before.std()


@pytest.mark.parametrize(("scheme", "engine"), ALL)
def test_opset_names_and_shapes_stay(quantized, scheme, engine):
    source, output, facts = quantized(scheme, engine, opset=14)
    before, after = onnx.load(source), onnx.load(output)
    onnx.checker.check_model(after, full_check=True)
    assert facts.opset == 14
    assert [(o.domain, o.version) for o in after.opset_import] == [("", 14)]
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output


@pytest.mark.parametrize(("scheme", "engine"), [("u8s8", "onnxruntime"), ("s8s8", "onnxruntime")])
def test_onnxruntime_runs_everything_but_the_ends_in_integers(quantized, tmp_path, scheme, engine):
    _, output, _ = quantized(scheme, engine)
    run = operators_run(output, tmp_path)
    assert (run["QLinearConv"], run["QLinearAdd"], run["QGemm"]) == (6, 2, 1)
    assert not {"Conv", "Relu", "Add", "Gemm"} & run.keys()


def test_tensorrt_graph_has_nothing_between_convolution_addition_and_relu(quantized):
    _, output, facts = quantized("s8s8", "tensorrt")
    nodes = onnx.load(output).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type == "Relu":
            assert made_by[node.input[0]].op_type in {"Conv", "Add"}
        if node.op_type == "Add":
            assert sorted(made_by[name].op_type for name in node.input) == ["Conv", "DequantizeLinear"]
    assert facts.int8_operators == {"Conv": 6, "Gemm": 1}
    assert facts.float_operators == {}


def test_tensorrt_graph_is_symmetric_with_float_bias(quantized):
    _, output, _ = quantized("s8s8", "tensorrt")
    known = constants(output)
    for scale, zero_point in roundings(output).values():
        assert scale.shape == ()
        assert (zero_point.dtype, zero_point) == (np.int8, 0)
    assert not any(value.dtype == np.int32 for value in known.values())
    assert all(not value.any() for name, value in known.items() if name.endswith("_zero_point"))


def test_weights_have_a_scale_per_output_channel(quantized):
    _, output, facts = quantized("u8s8")
    known = constants(output)
    assert known["stem.weight_scale"].shape == (8,)
    assert known["head.weight_scale"].shape == (5,)
    assert facts.rounded_weights == 7
    _, output, _ = quantized("u8s8", quantization={"per_channel": False})
    assert constants(output)["stem.weight_scale"].shape == ()


def test_reduced_range_keeps_weights_in_seven_bits(quantized):
    _, output, _ = quantized("u8s8", quantization={"reduce_range": True})
    weights = [v for name, v in constants(output).items() if name.endswith("weight_quantized")]
    assert len(weights) == 7
    assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64


def test_activations_after_a_relu_use_all_steps_on_onnxruntime(quantized):
    _, output, _ = quantized("s8s8")
    assert {int(zero) for name, (_, zero) in roundings(output).items() if name in {"x", "a_out", "b_out"}} == {-128}


@pytest.mark.parametrize(("scheme", "engine"), INT8)
@pytest.mark.parametrize("dead", [(2,), (0,), (0, 3, 7)], ids=str)
def test_dead_channels_get_a_positive_scale_and_keep_their_bias(quantized, scheme, engine, dead):
    _, output, facts = quantized(scheme, engine, dead=dead)
    known = constants(output)
    scale = known["stem.weight_scale"]
    assert scale.min() > 0
    assert facts.silent_channels == {"stem.weight": len(dead)}
    for channel in dead if "stem.bias_quantized" in known else ():
        bias = known["stem.bias_quantized"][channel] * known["stem.bias_quantized_scale"][channel]
        assert bias == pytest.approx(0.123, abs=float(known["input_scale"] * scale[channel]) / 2)
        assert bias == pytest.approx(0.123, rel=0.01)


@pytest.mark.parametrize(("scheme", "engine"), ALL)
def test_equal_inputs_give_equal_bytes(quantized, scheme, engine):
    _, output, first = quantized(scheme, engine)
    digest = digest_file(output)
    _, output, second = quantized(scheme, engine)
    assert digest == digest_file(output) == first.sha256 == second.sha256
    assert first == second


def test_bytes_do_not_depend_on_the_process_and_nothing_is_logged(net, target, tmp_path, feeds, calibration):
    source, chosen = net(), target("s8s8", "tensorrt")
    ranges = observe_ranges(source, calibration, load_recipe("minmax"), target=chosen, feed=feeds[0])
    (tmp_path / "ranges.json").write_text(ranges.to_json())
    (tmp_path / "target.json").write_text(chosen.model_dump_json())
    code = (
        "import logging, sys; from pathlib import Path\n"
        "from edgec.calibrate import Ranges; from edgec.core.target import Target; from edgec.quantize import quantize_model\n"
        "d = Path(sys.argv[1]); t = Target.model_validate_json((d / 'target.json').read_text())\n"
        "r = Ranges.from_json((d / 'ranges.json').read_text())\n"
        "print(quantize_model(Path(sys.argv[2]), r, t, output=d / sys.argv[3]).sha256)\n"
        "assert not logging.getLogger().handlers\n"
    )
    found = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), str(source), f"{seed}.onnx"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stderr == ""
        found.add(done.stdout)
    assert len(found) == 1


def test_root_logger_is_left_as_it_was(quantized, caplog):
    before = (list(logging.getLogger().handlers), list(logging.getLogger().filters))
    with caplog.at_level(logging.DEBUG):
        quantized("u8s8")
    assert caplog.records == []
    assert (logging.getLogger().handlers, logging.getLogger().filters) == before


def test_output_folder_holds_the_model_alone(quantized):
    _, output, _ = quantized("u8s8")
    assert [entry.name for entry in output.parent.iterdir()] == [output.name]


def test_facts_are_json_and_speak_of_the_file(quantized):
    _, output, facts = quantized("u8s8")
    told = json.loads(json.dumps(asdict(facts)))
    assert told["size_bytes"] == output.stat().st_size
    assert told["int8_operators"] == {"Conv": 6, "Gemm": 1}
    assert told["rounded_activations"] == len(roundings(output))


def test_float16_halves_the_weights_and_keeps_float32_at_the_ends(quantized):
    _, output, facts = quantized("float16")
    model = onnx.load(output)
    assert {value.dtype for value in constants(output).values()} == {np.dtype(np.float16)}
    ends = (model.graph.input[0], model.graph.output[0])
    assert {value.type.tensor_type.elem_type for value in ends} == {onnx.TensorProto.FLOAT}
    assert facts.float_operators == {"Conv": 6, "Gemm": 1}


def test_ranges_of_another_model_are_refused(net, target, tmp_path):
    with pytest.raises(CalibrationError) as caught:
        quantize_model(net(), Ranges(bounds={"input": (0, 1)}), target("u8s8"), output=tmp_path / "out.onnx")
    assert str(caught.value) == "tensor 'x' has no range, nor have 14 others of the 16 to round"
    assert caught.value.hint == "observe the ranges on this very model and target"
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("ending", ["_scale", "_zero_point", "_quantized", "_DequantizeLinear_Output"])
@pytest.mark.parametrize(("scheme", "engine"), INT8)
def test_names_that_the_quantiser_makes_may_be_in_the_graph_already(
    net, target, feeds, calibration, tmp_path, scheme, engine, ending
):
    """skl2onnx's scaler has a tensor `variable` and a constant that becomes `variable_scale`."""
    chosen, outputs = target(scheme, engine), []
    for name, clash in (("plain", False), ("clashing", True)):
        model = onnx.load(net())
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        if clash:
            first, second = convolutions[:2]
            new = {first.input[1]: f"{first.input[0]}{ending}", second.output[0]: f"{second.input[0]}{ending}"}
            for node in model.graph.node:
                node.input[:] = [new.get(each, each) for each in node.input]
                node.output[:] = [new.get(each, each) for each in node.output]
            for tensor in model.graph.initializer:
                tensor.name = new.get(tensor.name, tensor.name)
            del model.graph.value_info[:]
        source, output = tmp_path / f"{name}.onnx", tmp_path / f"{name}-int8.onnx"
        onnx.save(model, source)
        ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
        quantize_model(source, ranges, chosen, output=output)
        outputs.append(logits(output, feeds[0](calibration.pixels[:8])))
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1), (1,), ()])
@pytest.mark.parametrize(("scheme", "engine"), INT8)
def test_a_bias_of_any_shape_that_gemm_takes_is_quantised(target, feeds, calibration, tmp_path, scheme, engine, shape):
    """skl2onnx's perceptrons have biases of shape [1, n]."""
    rng, chosen, size = (
        np.random.default_rng(0),
        target(scheme, engine),
        int(np.prod(feeds[0](calibration.pixels[:1]).shape)),
    )
    weight = numpy_helper.from_array(rng.normal(0, 0.1, (size, 3)).astype(np.float32), "weight")
    bias = rng.normal(0, 1, shape).astype(np.float32)
    outputs = []
    for given in (bias, np.broadcast_to(bias.reshape(-1), (3,)).copy()):
        image = onnx.helper.make_tensor_value_info("input", 1, ["batch", *feeds[0](calibration.pixels[:1]).shape[1:]])
        nodes = [
            onnx.helper.make_node("Flatten", ["input"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], name="gemm"),
        ]
        graph = onnx.helper.make_graph(
            nodes,
            "linear",
            [image],
            [onnx.helper.make_tensor_value_info("logits", 1, ["batch", 3])],
            [weight, numpy_helper.from_array(np.asarray(given), "bias")],
        )
        source, output = tmp_path / "linear.onnx", tmp_path / "linear-int8.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), source)
        ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
        quantize_model(source, ranges, chosen, output=output)
        outputs.append(logits(output, feeds[0](calibration.pixels[:8])))
    np.testing.assert_array_equal(*outputs)
