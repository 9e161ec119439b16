"""Logits are divided by a temperature, which changes no class, and shifted class by class, in float and in int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import calibration_set, load_recipe, observe_ranges
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec, normalise
from edgec.core.target import load_target
from edgec.data import load_digits_splits
from edgec.export.logits import divide_logits_, shift_logits_, weight_of_last_layer
from edgec.export.onnx import export_onnx
from edgec.models.digits import digits_net
from edgec.models.weights import load_weights_, read_weights
from edgec.pipeline.embedded import WEIGHTS
from edgec.quantize import quantize_model

SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.305,), std=(0.376,))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
W, B = RNG.normal(size=(6, 5)).astype(np.float32), RNG.normal(size=5).astype(np.float32)


def graph(nodes: Sequence[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


node = helper.make_node
GRAPHS = {
    "gemm": ([node("Gemm", ["x", "w", "b"], ["logits"])], {"w": W, "b": B}, 0),
    "gemm without bias": ([node("Gemm", ["x", "w"], ["logits"], alpha=0.5)], {"w": W}, 0),
    "matmul": ([node("MatMul", ["x", "w"], ["logits"])], {"w": W}, 0),
    "matmul, add": ([node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["logits"])], {"w": W, "b": B}, 0),
    "add, matmul": ([node("MatMul", ["x", "w"], ["p"]), node("Add", ["b", "p"], ["logits"])], {"w": W, "b": B}, 0),
    "a weight that is read twice": (
        [node("MatMul", ["x", "w"], ["p"]), node("MatMul", ["x", "w"], ["q"]), node("Add", ["p", "q"], ["logits"])],
        {"w": W},
        1,
    ),
    "a bias that two layers share": (
        [
            *(node("Gemm", ["x", "w", "b"], ["p"]), node("Relu", ["p"], ["r"])),
            node("Gemm", ["r", "v", "b"], ["logits"]),
        ],
        {"w": W, "b": B, "v": RNG.normal(size=(5, 5)).astype(np.float32)},
        1,
    ),
    "no layer at the end": (
        [node("Gemm", ["x", "w", "b"], ["p"]), node("Relu", ["p"], ["logits"])],
        {"w": W, "b": B},
        1,
    ),
    "logits that the graph reads itself": (
        [node("MatMul", ["x", "w"], ["logits"]), node("Relu", ["logits"], ["unused"])],
        {"w": W},
        1,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("temperature", [0.31, 1.0, 2.7])
def test_all_logits_are_divided_and_no_operator_is_added_to_a_plain_last_layer(name: str, temperature: float) -> None:
    nodes, constants, added = GRAPHS[name]
    model = graph(nodes, **constants)
    before = run(model, x=X)
    divide_logits_(model, temperature)
    onnx.checker.check_model(model, full_check=True)
    after = run(model, x=X)
    # float32: sums of six products, of numbers below 10
    np.testing.assert_allclose(after, before / temperature, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert len(model.graph.node) - len(nodes) == added
    assert [value.name for value in model.graph.output] == ["logits"]


@pytest.mark.parametrize("name", [*GRAPHS, "half of the bias"])
def test_each_class_is_shifted_by_its_number(name: str) -> None:
    scaled = ([node("Gemm", ["x", "w", "b"], ["logits"], beta=0.5)], {"w": W, "b": B}, 1)
    nodes, constants, _ = GRAPHS.get(name, scaled)
    model, shift = graph(nodes, **constants), np.array([3.0, -1.0, 0.0, 0.25, -2.25])
    before = run(model, x=X)
    shift_logits_(model, shift)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, x=X), before + shift, rtol=1e-5, atol=1e-5)
    added = len(model.graph.node) - len(nodes)
    assert added == (0 if name in {"gemm", "matmul, add", "add, matmul"} else 1)


@pytest.mark.parametrize("name", [*GRAPHS, "by class"])
def test_the_weight_has_a_row_for_each_class(name: str) -> None:
    by_class = ([node("Gemm", ["x", "w", "b"], ["logits"], transB=1)], {"w": W.T.copy(), "b": B}, 0)
    nodes, constants, added = GRAPHS.get(name, by_class)
    found = weight_of_last_layer(graph(nodes, **constants), classes=5)
    if added:
        assert found is None
    else:
        np.testing.assert_array_equal(found, W.T)


def test_a_last_layer_of_other_classes_is_not_read() -> None:
    nodes, constants, _ = GRAPHS["gemm"]
    assert weight_of_last_layer(graph(nodes, **constants), classes=6) is None


def test_a_shift_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="expected finite numbers"):
        shift_logits_(graph(GRAPHS["gemm"][0], w=W, b=B), np.array([0.0, -np.inf, 0, 0, 0]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        divide_logits_(graph(GRAPHS["gemm"][0], w=W, b=B), temperature)


@pytest.mark.parametrize("temperature", [0.37, 3.3])
def test_no_digit_changes_its_class_in_float_or_int8(tmp_path: Path, temperature: float) -> None:
    module = digits_net()
    load_weights_(module, read_weights(WEIGHTS), source="digits")
    classifier = Classifier(module=module.eval(), input=SPEC, labels=tuple("0123456789"))
    train, test = load_digits_splits()
    recipe, target = load_recipe("minmax"), load_target("rpi5")
    seen = calibration_set(train, train.take(np.arange(50)), train.labels[:50], recipe, seed=0)
    classes = {}
    for which, hot in (("plain", None), ("divided", temperature)):
        path, int8 = tmp_path / f"{which}.onnx", tmp_path / f"{which}-int8.onnx"
        export_onnx(classifier, path, opset=18)
        if hot is not None:
            model = onnx.load(path)
            divide_logits_(model, hot)
            path.write_bytes(model.SerializeToString())
        ranges = observe_ranges(path, seen, recipe, target=target, feed=lambda pixels: normalise(pixels, SPEC))
        quantize_model(path, ranges, target, output=int8)
        inputs = normalise(test.decoded(), SPEC)
        classes[which] = [run(onnx.load(file), input=inputs).argmax(axis=1) for file in (path, int8)]
    for plain, divided in zip(classes["plain"], classes["divided"], strict=True):
        np.testing.assert_array_equal(plain, divided)
