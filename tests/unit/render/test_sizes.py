"""Where the bytes of a file are: every byte once, each with its layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.render.sizes import size_parts

WEIGHT = np.ones((8, 3, 3, 3), np.float32)


def model(path: Path, *, quantized: bool) -> Path:
    """A convolution with a bias, then a product with a constant; its weight in int8 behind a Q/DQ pair if asked for."""
    tensors = {"bias": np.ones(8, np.float32), "factor": np.ones(1, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "bias"], ["y"], name="conv"),
        helper.make_node("Mul", ["y", "factor"], ["z"], name="mul"),
    ]
    if quantized:
        tensors |= {"q": WEIGHT.astype(np.int8), "s": np.ones(8, np.float32), "zero": np.zeros(8, np.int8)}
        nodes.insert(0, helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["w"], axis=0))
    else:
        tensors["w"] = WEIGHT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return model(tmp_path / "int8.onnx", quantized=True), model(tmp_path / "fp32.onnx", quantized=False)


def test_a_layer_has_its_weight_bias_and_scales(paths: tuple[Path, Path]) -> None:
    layer, constants, _ = size_parts(*paths)
    assert (layer.name, layer.operator) == ("conv", "Conv")
    assert layer.bytes == WEIGHT.size + 8 * 4 + 8 * 4 + 8
    assert layer.full_bytes == WEIGHT.size * 4 + 8 * 4
    assert (constants.bytes, constants.full_bytes) == (4, 4)


def test_the_parts_add_up_to_the_file(paths: tuple[Path, Path]) -> None:
    parts = size_parts(*paths)
    assert sum(part.bytes for part in parts) == paths[0].stat().st_size
    assert sum(part.full_bytes or 0 for part in parts) == paths[1].stat().st_size


def test_numbers_of_four_bits_take_half_a_byte(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", quantized=True)
    graph = onnx.load(path)
    tensor = next(each for each in graph.graph.initializer if each.name == "q")
    tensor.CopyFrom(helper.make_tensor("q", TensorProto.INT4, WEIGHT.shape, WEIGHT.astype(int).ravel().tolist()))
    onnx.save(graph, path)
    assert size_parts(path, path)[0].bytes == WEIGHT.size // 2 + 8 * 4 + 8 * 4 + 8
