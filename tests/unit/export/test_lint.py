"""Faults planted in a graph that is good: each is found, at its node, with a fix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.core.errors import UnsupportedError
from edgec.core.target import Gpu, Quantization, Rules, Runtime, Scheme, Target
from edgec.export.limits import builds_for_dla
from edgec.export.lint import lint, require_clean

Plant = Callable[[ModelProto], None]


def good_net() -> ModelProto:
    """conv, relu, a residual block and a Gemm, quantised as TensorRT wants it."""
    rng = np.random.default_rng(0)
    nodes: list[NodeProto] = []
    constants: dict[str, np.ndarray] = {}

    def rounded(source: str) -> str:
        constants[f"{source}.scale"], constants[f"{source}.zero"] = np.float32(0.02), np.int8(0)
        nodes.append(node("QuantizeLinear", [source, f"{source}.scale", f"{source}.zero"], f"{source}.q"))
        nodes.append(node("DequantizeLinear", [f"{source}.q", f"{source}.scale", f"{source}.zero"], f"{source}.dq"))
        return f"{source}.dq"

    def weighted(kind: str, source: str, name: str, shape: tuple[int, ...], **attributes: object) -> str:
        constants[f"{name}.w"] = rng.integers(-127, 128, shape, dtype=np.int8)
        constants[f"{name}.ws"] = np.full(shape[0], 0.01, np.float32)
        constants[f"{name}.wz"] = np.zeros(shape[0], np.int8)
        constants[f"{name}.b"] = np.zeros(shape[0], np.float32)
        inputs = [f"{name}.w", f"{name}.ws", f"{name}.wz"]
        nodes.append(node("DequantizeLinear", inputs, f"{name}.wdq", axis=0))
        nodes.append(node(kind, [source, f"{name}.wdq", f"{name}.b"], name, **attributes))
        return name

    weighted("Conv", rounded("input"), "stem", (8, 3, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
    nodes.append(node("Relu", ["stem"], "x"))
    shortcut = rounded("x")
    weighted("Conv", shortcut, "a1", (8, 8, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
    nodes.append(node("Relu", ["a1"], "a1r"))
    weighted("Conv", rounded("a1r"), "a2", (8, 8, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
    nodes.append(node("Add", ["a2", shortcut], "sum"))
    nodes.append(node("Relu", ["sum"], "y"))
    nodes.append(node("GlobalAveragePool", ["y"], "pooled"))
    nodes.append(node("Flatten", ["pooled"], "flat"))
    weighted("Gemm", rounded("flat"), "logits", (5, 8), transB=1)
    graph = helper.make_graph(
        nodes,
        "good",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def node(kind: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def jetson(*, scheme: str = "s8s8", version: str | None = "10.3", dla: bool = False) -> Target:
    return Target(
        name="test",
        title="Test",
        family="jetson",
        architecture="aarch64",
        runtime=Runtime(engine="tensorrt", opset=18, version=version),
        quantization=Quantization(scheme=Scheme(scheme)),
        rules=Rules(dla=dla),
    )


def named(model: ModelProto, name: str) -> NodeProto:
    return next(found for found in model.graph.node if found.name == name)


def constant(name: str, value: object) -> Plant:
    """Gives a constant another value."""

    def plant(model: ModelProto) -> None:
        tensor = next(found for found in model.graph.initializer if found.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))

    return plant


def scales_of_an_activation(model: ModelProto) -> None:
    constant("a1r.scale", np.full(8, 0.02, np.float32))(model)
    constant("a1r.zero", np.zeros(8, np.int8))(model)


def rounding_of(source: str, reader: str, *, scale: float = 0.02) -> Plant:
    """Puts Q and DQ between a tensor and one reader of it."""

    def plant(model: ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.float32(scale), "new.scale"))
        graph.initializer.append(numpy_helper.from_array(np.int8(0), "new.zero"))
        taker = named(model, reader)
        taker.input[list(taker.input).index(source)] = "new.dq"
        place = list(graph.node).index(taker)
        graph.node.insert(place, node("DequantizeLinear", ["new.q", "new.scale", "new.zero"], "new.dq"))
        graph.node.insert(place, node("QuantizeLinear", [source, "new.scale", "new.zero"], "new.q"))

    return plant


def rewired(reader: str, old: str, new: str) -> Plant:
    def plant(model: ModelProto) -> None:
        taker = named(model, reader)
        taker.input[list(taker.input).index(old)] = new

    return plant


def float_weight(name: str) -> Plant:
    """A weight that is not rounded."""

    def plant(model: ModelProto) -> None:
        shape = next(t.dims for t in model.graph.initializer if t.name == f"{name}.w")
        weight = numpy_helper.from_array(np.ones(list(shape), np.float32), f"{name}.float")
        model.graph.initializer.append(weight)
        named(model, name).input[1] = f"{name}.float"

    return plant


def both(*plants: Plant) -> Plant:
    def plant(model: ModelProto) -> None:
        for each in plants:
            each(model)

    return plant


def weight_axis(model: ModelProto) -> None:
    named(model, "a1.wdq").attribute[0].i = 1


def int32_bias(model: ModelProto) -> None:
    constants = {"bias.i": np.zeros(8, np.int32), "bias.s": np.full(8, 2e-4, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.insert(0, node("DequantizeLinear", ["bias.i", "bias.s"], "bias.dq", axis=0))
    named(model, "a1").input[2] = "bias.dq"


def opset(version: int) -> Plant:
    def plant(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return plant


def another_operator(kind: str, domain: str = "") -> Plant:
    def plant(model: ModelProto) -> None:
        named(model, "y").op_type, named(model, "y").domain = kind, domain

    return plant


def open_height(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def positions(model: ModelProto) -> None:
    pool = helper.make_node("MaxPool", ["y"], ["largest", "where"], name="pool", kernel_shape=[2, 2])
    model.graph.node.append(pool)


FAULTS: dict[str, tuple[Plant, str, str]] = {
    "zero-point": (constant("a1r.zero", np.int8(3)), "a1r.q", "symmetrically"),
    "uint8 activations": (constant("a1r.zero", np.uint8(0)), "a1r.q", "int8"),
    "int16 activations": (constant("a1r.zero", np.int16(0)), "a1r.q", "8 bits"),
    "int32 bias": (int32_bias, "bias.dq", "QuantizeBias = False"),
    "weight scale of 0": (constant("a1.ws", np.array([0.1] * 3 + [0] + [0.1] * 4, np.float32)), "a1.wdq", "widest"),
    "negative scale": (constant("a1r.scale", np.float32(-0.1)), "a1r.q", "widest"),
    "scale that is not finite": (constant("a1r.scale", np.float32("nan")), "a1r.q", "NaN"),
    "scale at run time": (rewired("a1r.q", "a1r.scale", "pooled"), "a1r.q", "calibrate"),
    "scales per channel of an activation": (scales_of_an_activation, "a1r.q", "per tensor"),
    "weight axis": (weight_axis, "a1.wdq", "axis 0"),
    "input alone in int8": (float_weight("a1"), "a1", "or neither"),
    "weight alone in int8": (rewired("a1", "x.dq", "x"), "a1", "or neither"),
    "convolution in float": (both(float_weight("a1"), rewired("a1", "x.dq", "x")), "a1", "calibrate"),
    "rounding before ReLU": (rounding_of("a1", "a1r"), "a1r", "output of the Relu"),
    "rounding before the addition": (both(rewired("sum", "x.dq", "x"), rounding_of("a2", "sum")), "sum", "shortcut"),
    "both sides of an addition": (rounding_of("a2", "sum"), "sum", "shortcut"),
    "no side of an addition": (rewired("sum", "x.dq", "x"), "sum", "shortcut"),
    "opset": (opset(21), "the graph", "20 or less"),
    "operator": (another_operator("Det"), "y", "without it"),
    "operator of another domain": (another_operator("Relu", "com.microsoft"), "y", "without it"),
    "positions of a maximum": (positions, "pool", "return_indices"),
    "rounding twice": (rounding_of("x.dq", "a1", scale=0.05), "new.q", "once"),
    "unequal pair": (rewired("a1r.dq", "a1r.scale", "x.wider"), "a1r.q", "one scale"),
    "integers that are not read back": (rewired("a1r", "a1", "x.q"), "x.q", "DequantizeLinear"),
    "height of any length": (open_height, "input", "one image size"),
    "weight that is not finite": (constant("a1.b", np.full(8, np.inf, np.float32)), "a1", "NaN"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_node_with_a_fix(name: str) -> None:
    plant, where, fix = FAULTS[name]
    model = good_net()
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.03), "x.wider"))
    plant(model)
    places = {finding: [*finding.node.replace("'", " ").split(), finding.node] for finding in lint(model, jetson())}
    found = [finding for finding, named_there in places.items() if where in named_there]
    assert any(fix in finding.fix for finding in found), lint(model, jetson())


def test_a_good_graph_has_no_fault() -> None:
    assert lint(good_net(), jetson()) == ()


@pytest.mark.parametrize(
    ("version", "newest"), [("8.2", 13), ("8.5", 17), ("10.3", 20), ("10.16", 24), ("11.0", 24), (None, 24)]
)
def test_each_version_parses_up_to_its_opset(version: str | None, newest: int) -> None:
    model = good_net()
    opset(newest)(model)
    assert "opset" not in {finding.rule for finding in lint(model, jetson(version=version))}
    opset(newest + 1)(model)
    assert "opset" in {finding.rule for finding in lint(model, jetson(version=version))}


def test_layer_normalisation_is_refused_for_jetpack_5_alone() -> None:
    model = good_net()
    model.opset_import[0].version = 17
    another_operator("LayerNormalization")(model)
    assert [finding.rule for finding in lint(model, jetson(version="8.5"))] == ["operator"]
    assert lint(model, jetson()) == ()


def test_an_operator_kept_on_purpose_is_no_fault() -> None:
    model = good_net()
    both(float_weight("a1"), rewired("a1", "x.dq", "x"))(model)
    assert lint(model, jetson(), kept=["a1"]) == ()


def test_the_accelerators_limits_are_looked_at_only_where_asked_for() -> None:
    model = good_net()
    next(found for found in named(model, "a1").attribute if found.name == "kernel_shape").ints[:] = [33, 33]
    another_operator("Erf")(model)
    assert lint(model, jetson()) == ()
    found = {finding.node: finding for finding in lint(model, jetson(dla=True))}
    assert set(found) == {"input 'input'", "node 'a1'", "node 'y'"}
    assert {finding.severity for finding in found.values()} == {"warning"}


def test_the_accelerator_is_gone_from_newer_versions() -> None:
    found = lint(good_net(), jetson(version="10.16", dla=True))
    assert found[0].what == "TensorRT 10.16 builds nothing for it: 10.7 was the last that did"


@pytest.mark.parametrize(
    ("version", "restored", "builds"),
    [
        *(("10.3", None, True), ("10.7", "11.4.1", True), ("10.7.0", None, True)),
        *(("10.8", None, False), ("10.16", "11.4.1", False), ("11.3", "11.4.1", False)),
        *(("11.4.0", "11.4.1", False), ("11.4", "11.4.1", False), ("11.4.1", None, False)),
        *(("11.4.1", "11.4.1", True), ("11.5.0", "11.4.1", True), ("12.0", "11.4.1", True)),
    ],
)
def test_the_accelerator_is_built_for_by_the_versions_that_a_device_has_it_in(
    version: str, restored: str | None, builds: bool
) -> None:
    assert builds_for_dla(version, restored) is builds
    gpu = Gpu(compute_capability="8.7", cuda_cores=2048, tensor_cores=64, clock_ghz=1.3, dla_restored=restored)
    device = jetson(version=version, dla=True).model_copy(update={"gpu": gpu})
    errors = [finding for finding in lint(good_net(), device) if finding.rule == "dla" and finding.severity == "error"]
    assert bool(errors) is not builds
    assert all(("11.4.1 is the first that does again on this device" in e.what) is bool(restored) for e in errors)


def test_a_floating_point_scheme_promises_no_int8() -> None:
    model = good_net()
    both(float_weight("a1"), rewired("a1", "x.dq", "x"))(model)
    assert lint(model, jetson(scheme="float16")) == ()


def test_an_error_stops_the_build_and_a_warning_does_not() -> None:
    model = good_net()
    rounding_of("a2", "sum")(model)
    require_clean(lint(model, jetson()))
    both(constant("a1r.zero", np.int8(3)), opset(21))(model)
    with pytest.raises(UnsupportedError) as raised:
        require_clean(lint(model, jetson()))
    text = "TensorRT cannot take this graph: the graph: opset 21, TensorRT 10.3 parses up to 20 [opset] (and 2 more)"
    assert str(raised.value) == text
    assert raised.value.hint == "set runtime.opset, or give a model, of 20 or less"
