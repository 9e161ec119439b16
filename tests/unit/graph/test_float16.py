"""float16 as a GPU computes it: against NumPy in float16, and where onnxruntime alone would hide what is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.graph.float16 import as_computed_in_float16

WEIGHTS = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float16)


def half_net(scale: float, opset: int = 18) -> onnx.ModelProto:
    """x · scale · W1, ReLU, / scale · W2 in float16, with float32 at both ends."""
    constants = {"w1": WEIGHTS[0], "w2": WEIGHTS[1], "up": np.float16(scale), "down": np.float16(1 / scale)}
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["x", "up"], ["large"]),
        helper.make_node("MatMul", ["large", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["relu"]),
        helper.make_node("Mul", ["relu", "down"], ["small"]),
        helper.make_node("MatMul", ["small", "w2"], ["half"]),
        helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in ("input", "logits")]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def in_numpy(x: np.ndarray, scale: float) -> np.ndarray:
    """Sums in float32, every result rounded to float16."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)

    with np.errstate(over="ignore", invalid="ignore"):
        hidden = np.maximum(product(x.astype(np.float16) * np.float16(scale), WEIGHTS[0]), np.float16(0))
        return product(hidden * np.float16(1 / scale), WEIGHTS[1]).astype(np.float32)


def logits(model: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)


@pytest.mark.parametrize("opset", [13, 17, 18, 19])
@pytest.mark.parametrize("scale", [1.0, 16.0, 4096.0, 32768.0])
def test_every_result_is_rounded_as_numpy_rounds_it(tmp_path: Path, x: np.ndarray, scale: float, opset: int) -> None:
    onnx.save(half_net(scale, opset), tmp_path / "half.onnx")
    got, wanted = logits(as_computed_in_float16(tmp_path / "half.onnx"), x), in_numpy(x, scale)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
    fine = np.isfinite(wanted)
    # Sums in another order may round to the neighbour: half a unit of float16, 2⁻¹¹ of values up to 8.
    np.testing.assert_allclose(got[fine], wanted[fine], atol=8 * 2**-11)


def test_an_overflow_that_a_cpu_hides_shows(tmp_path: Path, x: np.ndarray) -> None:
    onnx.save(half_net(32768.0), tmp_path / "half.onnx")
    assert not np.isfinite(logits(as_computed_in_float16(tmp_path / "half.onnx"), x)).all()
    # The day that this fails, onnxruntime computes in float16 itself, and nothing has to be rounded by hand any more.
    assert np.isfinite(logits((tmp_path / "half.onnx").read_bytes(), x)).all()


def test_the_file_stays_as_it_is(tmp_path: Path) -> None:
    onnx.save(half_net(1.0), tmp_path / "half.onnx")
    before = (tmp_path / "half.onnx").read_bytes()
    onnx.checker.check_model(onnx.load_from_string(as_computed_in_float16(tmp_path / "half.onnx")), full_check=True)
    assert (tmp_path / "half.onnx").read_bytes() == before
