"""A temperature in an exported graph: all logits divided by one number, inside the last layer where that is possible.

A positive number changes no class: which logit is the largest stays as it was.

Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.graph.view import producers, readers

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["divide_logits_"]

SCALE = "logits_scale"
UNSCALED = "logits_unscaled"


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
        _multiply_(model.graph, output, 1 / temperature)
        return
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            divided = numpy_helper.to_array(tensor) / np.float32(temperature)
            tensor.CopyFrom(numpy_helper.from_array(divided, tensor.name))


def _constants_of_last_layer(graph: GraphProto, output: str) -> set[str] | None:
    """Weight and bias of the product that makes the logits, if nothing else reads them; else None."""
    made, read = producers(graph), readers(graph)
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}

    def own(name: str) -> bool:
        return kinds.get(name) == onnx.TensorProto.FLOAT and len(read[name]) == 1

    node = made.get(output)
    if node is None or read[output]:
        return None
    found = list(node.input[1:]) if node.op_type in ("Gemm", "MatMul") else _behind_add(node, made, read)
    return set(found) if found and all(map(own, found)) else None


def _behind_add(node: NodeProto, made: dict[str, NodeProto], read: dict[str, list[NodeProto]]) -> list[str]:
    """The bias that an Add puts on a MatMul, and the weight of that."""
    if node.op_type != "Add":
        return []
    for product, bias in (node.input, reversed(node.input)):
        maker = made.get(product)
        if maker is not None and maker.op_type == "MatMul" and len(read[product]) == 1:
            return [maker.input[1], bias]
    return []


def _multiply_(graph: GraphProto, output: str, factor: float) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == output:
                    names[position] = UNSCALED
    graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), SCALE))
    graph.node.append(helper.make_node("Mul", [UNSCALED, SCALE], [output], name=SCALE))
