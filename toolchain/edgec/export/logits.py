"""What is done to the logits of an exported graph, inside the last layer where that is possible.

A temperature divides all of them by one positive number, which changes no class (Guo et al., On Calibration of Modern
Neural Networks, ICML 2017). A shift adds a number to the logits of each class (Menon et al., Long-Tail Learning via
Logit Adjustment, ICLR 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.graph.view import producers, readers

if TYPE_CHECKING:
    from jaxtyping import Float
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["divide_logits_", "shift_logits_", "weight_of_last_layer"]

SCALE, SHIFT = "logits_scale", "logits_shift"


def divide_logits_(model: ModelProto, temperature: float) -> None:
    """Divides the first output by a number.

    Weight and bias of the layer that makes the logits take it, where they are constants of this layer alone: then the
    graph computes no operator more. Else a Mul is put behind.

    Raises:
        ValueError: The number is not positive and finite.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature {temperature}: expected a positive number")
    output = model.graph.output[0].name
    constants = _constants_of_last_layer(model.graph, output)
    if constants is None:
        _append_(model.graph, "Mul", output, np.array(1 / temperature, np.float32), SCALE)
        return
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            _replace_(tensor, numpy_helper.to_array(tensor) / np.float32(temperature))


def shift_logits_(model: ModelProto, shift: Float[np.ndarray, "class"]) -> None:
    """Adds a number for each class to the first output.

    The bias of the layer that makes the logits takes it, where that is a constant of this layer alone: then the graph
    computes no operator more. Else an Add is put behind.

    Raises:
        ValueError: A number is not finite.
    """
    if not np.all(np.isfinite(shift)):
        raise ValueError(f"shift {shift}: expected finite numbers")
    output = model.graph.output[0].name
    _, *biases = _constants_of_last_layer(model.graph, output) or [""]
    by_name = {tensor.name: tensor for tensor in model.graph.initializer}
    bias = numpy_helper.to_array(by_name[biases[0]]) if biases else None
    if bias is None or bias.size != shift.size or _scale_of_bias(model.graph, output) != 1.0:
        _append_(model.graph, "Add", output, shift.astype(np.float32), SHIFT)
        return
    _replace_(by_name[biases[0]], bias + shift.astype(np.float32).reshape(bias.shape))


def weight_of_last_layer(model: ModelProto, *, classes: int) -> Float[np.ndarray, "class feature"] | None:
    """What makes the logits from features; None where that is no product with a constant of its own."""
    output = model.graph.output[0].name
    name, *_ = _constants_of_last_layer(model.graph, output) or [""]
    weight = next((numpy_helper.to_array(each) for each in model.graph.initializer if each.name == name), None)
    if weight is None or weight.ndim != 2:
        return None
    node = producers(model.graph)[output]
    by_class = any(each.name == "transB" and each.i for each in node.attribute)
    rows = weight if by_class else weight.T
    return rows if len(rows) == classes else None


def _scale_of_bias(graph: GraphProto, output: str) -> float:
    """Gemm's beta; 1 for an Add."""
    node = producers(graph)[output]
    return next((float(each.f) for each in node.attribute if each.name == "beta"), 1.0)


def _replace_(tensor: TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _constants_of_last_layer(graph: GraphProto, output: str) -> list[str] | None:
    """Weight and bias of the product that makes the logits, if nothing else reads them; else None."""
    made, read = producers(graph), readers(graph)
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}

    def own(name: str) -> bool:
        return kinds.get(name) == onnx.TensorProto.FLOAT and len(read[name]) == 1

    node = made.get(output)
    if node is None or read[output]:
        return None
    found = list(node.input[1:]) if node.op_type in ("Gemm", "MatMul") else _behind_add(node, made, read)
    return found if found and all(map(own, found)) else None


def _behind_add(node: NodeProto, made: dict[str, NodeProto], read: dict[str, list[NodeProto]]) -> list[str]:
    """The bias that an Add puts on a MatMul, and the weight of that."""
    if node.op_type != "Add":
        return []
    for product, bias in (node.input, reversed(node.input)):
        maker = made.get(product)
        if maker is not None and maker.op_type == "MatMul" and len(read[product]) == 1:
            return [maker.input[1], bias]
    return []


def _append_(graph: GraphProto, operator: str, output: str, constant: np.ndarray, name: str) -> None:
    """Puts an operator with a constant between what makes the output and the output."""
    before = f"before_{name}"
    for node in graph.node:
        for names in (node.input, node.output):
            for position, found in enumerate(names):
                if found == output:
                    names[position] = before
    graph.initializer.append(numpy_helper.from_array(constant, name))
    graph.node.append(helper.make_node(operator, [before, name], [output], name=name))
