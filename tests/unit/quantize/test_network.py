"""The graph in torch: in floating point what onnxruntime computes, rounded what it computes of the quantised graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgec.calibrate import load_recipe, observe_ranges, prepare
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.quantize import quantize_model
from edgec.quantize.network import Network
from edgec.runtime import Session

INT8 = [("u8s8", "onnxruntime"), ("s8s8", "onnxruntime"), ("s8s8", "tensorrt")]


def logits(path, images):
    """As the graph stands there: fused kernels round in other places."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": images})[0]


@pytest.fixture
def network(net, target, feeds, calibration):
    """The net in torch for a scheme and an engine, with what it was made from."""

    def make(scheme="s8s8", engine="tensorrt", *, quantization=None, **variant):
        source, chosen = net(**variant), target(scheme, engine, **(quantization or {}))
        ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
        return Network(prepare(source), ranges, chosen), source, chosen

    return make


@pytest.mark.parametrize("variant", [{}, {"batch_norm": True}, {"dead": (2,)}, {"opset": 13}])
def test_without_rounding_it_computes_what_the_graph_computes(network, images, variant):
    net, source, _ = network(**variant)
    with torch.no_grad():
        found = net.in_floating_point(images)
    np.testing.assert_allclose(found, logits(source, images.numpy()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scheme", "engine"), INT8)
@pytest.mark.parametrize("quantization", [{}, {"per_channel": False}, {"weight_bits": 4}])
def test_what_it_writes_quantises_to_what_it_computes(network, images, tmp_path, scheme, engine, quantization):
    net, _, target = network(scheme, engine, quantization=quantization)
    model, ranges = net.quantizable()
    onnx.save(model, tmp_path / "refined.onnx")
    quantize_model(tmp_path / "refined.onnx", ranges, target, output=tmp_path / "q.onnx")
    with torch.no_grad():
        found = net(images).numpy()
    wanted = logits(tmp_path / "q.onnx", images.numpy())
    # A sum in another order turns a value that lies between two integers here and there.
    assert np.abs(found - wanted).max() < 0.02 * wanted.std()
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.97


@pytest.mark.parametrize(("scheme", "engine"), INT8)
def test_the_runtime_rounds_nothing_that_the_graph_does_not(network, images, tmp_path, scheme, engine):
    net, _, target = network(scheme, engine)
    model, ranges = net.quantizable()
    onnx.save(model, tmp_path / "refined.onnx")
    quantize_model(tmp_path / "refined.onnx", ranges, target, output=tmp_path / "q.onnx")
    found = Session(tmp_path / "q.onnx", InputSpec(height=8, width=8)).logits(images.numpy())
    wanted = logits(tmp_path / "q.onnx", images.numpy())
    # Integer kernels round once where the graph as it stands rounds twice: only onnxruntime's own scheme has them.
    assert np.abs(found - wanted).max() < (0.2 if engine == "onnxruntime" else 1e-4) * wanted.std()


@pytest.mark.parametrize(("scheme", "engine"), INT8)
def test_it_rounds_the_tensors_that_the_quantised_graph_rounds(network, tmp_path, scheme, engine):
    net, source, target = network(scheme, engine)
    model, ranges = net.quantizable()
    onnx.save(model, tmp_path / "refined.onnx")
    quantize_model(tmp_path / "refined.onnx", ranges, target, output=tmp_path / "q.onnx")
    graph = onnx.load(tmp_path / "q.onnx").graph
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    probe = torch.full((1,), 0.123456)
    names = {value.name for value in prepare(source).graph.value_info} | {"input", "logits"}
    changed = {name for name in names if not torch.equal(net.rounded(name, probe), probe)}
    # A tensor that a quantised operator merely moves, or that a ReLU alone reads, needs no pair of its own there.
    assert rounded <= changed
    assert len(rounded) >= len(net.layers)


def with_large_bias(source, path, *, shared):
    """The net with weights so small beside their bias that it is far beyond int32 in the product of their steps."""
    model = onnx.load(source)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, factor in (("a2.weight", 1e-9), ("a2.bias", 10.0)):
        array = onnx.numpy_helper.to_array(stored[name]) * np.float32(factor)
        stored[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    if shared:
        next(node for node in model.graph.node if node.output[0] == "a1").input[1] = "a2.weight"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("quantization", [{}, {"per_channel": False}])
@pytest.mark.parametrize("shared", [False, True])
def test_a_bias_beyond_int32_is_simulated_as_it_ships(
    target, feeds, calibration, net, images, tmp_path, quantization, shared
):
    source = with_large_bias(net(), tmp_path / "large.onnx", shared=shared)
    chosen = target("u8s8", **quantization)
    ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
    network = Network(prepare(source), ranges, chosen)
    quantize_model(source, ranges, chosen, output=tmp_path / "q.onnx")
    with torch.no_grad():
        found = network.run(images, wanted=["a2"])
    wanted = logits(tmp_path / "q.onnx", images.numpy())
    bias = network.constant("a2.bias")
    torch.testing.assert_close(found["a2"].mean((0, 2, 3)), bias, rtol=1e-3, atol=1e-5)  # not clipped
    assert np.abs(found["logits"].numpy() - wanted).max() < 0.05 * wanted.std()


def test_weights_in_four_bits_take_fifteen_values_and_stay_so_in_the_file(network, tmp_path):
    net, _, target = network(quantization={"weight_bits": 4})
    model, ranges = net.quantizable()
    onnx.save(model, tmp_path / "refined.onnx")
    quantize_model(tmp_path / "refined.onnx", ranges, target, output=tmp_path / "q.onnx")
    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer]
    weights = [array for array in stored if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 7
    assert all(np.abs(weight).max() <= 7 for weight in weights)
    assert all(np.unique(weight).size > 7 for weight in weights)


def test_one_layer_alone_is_rounded(network, images):
    net, _, _ = network(quantization={"weight_bits": 4})
    with torch.no_grad():
        bare = net.run(images, only=(), wanted=["a1", "b2"])
        one = net.run(
            images, only=[next(layer.name for layer in net.layers if layer.output == "b1")], wanted=["a1", "b2"]
        )
    assert torch.equal(bare["a1"], one["a1"])
    assert not torch.equal(bare["b2"], one["b2"])


def test_layers_that_stay_in_floating_point_are_none_of_its_layers(net, target, feeds, calibration, tmp_path):
    source, chosen = net(), target("s8s8", "tensorrt")
    ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
    graph = prepare(source)
    first, *others = (layer.name for layer in Network(graph, ranges, chosen).layers)
    spared = Network(graph, type(ranges)(bounds=ranges.bounds, floats=(first,)), chosen)
    assert [layer.name for layer in spared.layers] == others
    model, written = spared.quantizable()
    onnx.save(model, tmp_path / "refined.onnx")
    facts = quantize_model(tmp_path / "refined.onnx", written, chosen, output=tmp_path / "q.onnx")
    assert facts.float_operators == {"Conv": 1}


def test_gradients_pass_the_rounding_to_weights_and_steps(network, images):
    net, _, _ = network("u8s8", "onnxruntime")
    learned = [p.requires_grad_(True) for p in (*net.weights, *net.steps)]
    net(images).square().sum().backward()
    # The last bias has no rounding behind it, every other parameter has.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in learned)


def test_a_graph_of_a_fixed_batch_size_is_refused(network):
    with pytest.raises(UnsupportedError, match=r"takes 4 images at a time, expected any number"):
        network(batch=4)


def test_ranges_read_back_as_they_were_written(network):
    _, ranges = network(quantization={"weight_bits": 4})[0].quantizable()
    assert type(ranges).from_json(ranges.to_json()) == ranges
