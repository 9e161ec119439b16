"""The end of a classifier: a softmax is cut off, so that logits are logits; of mere probabilities the logs are taken.

A softmax of log-probabilities is the probabilities again: whoever reads the file that ships sees what the file that was
given said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.graph.view import attribute, producers, readers
from edgec.models.onnx.layout import rename_
from edgec.models.onnx.tidy import prune_

__all__ = ["OUTPUT", "Head", "give_logits_"]

OUTPUT = "logits"
_ENDS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
_MOVES = {"Reshape", "Flatten", "Squeeze"}
_PASSES = {"Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"}
_TINY = 1e-7
_SUM = 1e-3
"""By which rows of probabilities in float32 or float16 may miss 1."""


class Head(NamedTuple):
    """What was found at the end.

    Attributes:
        told: What was done, in words; None for logits as the pipeline has them.
        threshold: Of a single output for two classes, the value from which it says the second.
    """

    told: str | None
    threshold: float | None = None


def give_logits_(graph: GraphProto, output: str, scores: np.ndarray, classes: int) -> Head:
    """Makes logits [batch, classes] the only output.

    Args:
        graph: Its outputs are replaced.
        output: The tensor that was chosen.
        scores: What it gave for images that differ, one row each.
        classes: How many there are.
    """
    rows = scores.reshape(len(scores), -1)
    end, before = _end(graph, output, rows)
    name, told = (before, f"its {end} cut off") if end else (output, None)
    if end is None and _are_probabilities(rows):
        name, told = _log_(graph, _unnormalised(graph, output)), "logs of its probabilities taken as logits"
    if end is None and scores.dtype.kind != "f":
        name = _node_(graph, "Cast", name, to=TensorProto.FLOAT)
    if scores.ndim != 2:
        name = _node_(graph, "Flatten", name, axis=1)
    threshold = None
    if rows.shape[1] == 1 and classes == 2:
        name, threshold = _two_(graph, name), 0.5 if end else 0.0
        told = f"{told}, " if told else ""
        told += "its one output made two, the first 0"
    del graph.output[:]
    if any(OUTPUT in (*node.input, *node.output) for node in graph.node) and name != OUTPUT:
        rename_(graph, OUTPUT, "logits_as_given")
    _close_(graph, name)
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes]))
    prune_(graph)
    return Head(told, threshold)


def _end(graph: GraphProto, output: str, rows: np.ndarray) -> tuple[str | None, str]:
    """The softmax or the like at the end, in words, and the tensor that goes into it."""
    makers = producers(graph)
    name, moved = output, list[NodeProto]()
    while name in makers and makers[name].op_type in _PASSES | _MOVES:
        node = makers[name]
        moved += [node] if node.op_type in _MOVES else []
        name = node.input[0]
    node = makers.get(name)
    if node is None:
        return None, output
    if node.op_type in _ENDS and _is_over_classes(node.op_type, rows):
        return _ENDS[node.op_type], _moved_(graph, node.input[0], moved)
    written = _written_out(node, makers)
    return ("softmax, written out in operators,", written) if written and not moved else (None, output)


def _moved_(graph: GraphProto, name: str, moved: list[NodeProto]) -> str:
    """What went into the softmax, in the shape that its result was given."""
    for node in reversed(moved):
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0], copy.output[0], copy.name = name, f"{node.output[0]}_before", f"{node.output[0]}_before"
        graph.node.append(copy)
        name = copy.output[0]
    return name


def _written_out(node: NodeProto, makers: dict[str, NodeProto]) -> str | None:
    """What goes into exp(x) / sum(exp(x)), with or without its maximum taken off."""
    if node.op_type != "Div":
        return None
    power, total = (makers.get(name) for name in node.input)
    if power is None or total is None or (power.op_type, total.op_type) != ("Exp", "ReduceSum"):
        return None
    if total.input[0] != power.output[0]:
        return None
    less = makers.get(power.input[0])
    if less is not None and less.op_type == "Sub":
        most = makers.get(less.input[1])
        if most is not None and most.op_type == "ReduceMax" and most.input[0] == less.input[0]:
            return less.input[0]
    return power.input[0]


def _is_over_classes(operator: str, rows: np.ndarray) -> bool:
    """Whether it is the classes' numbers that it brings to a sum of 1, not those along another axis."""
    if operator == "Sigmoid" or rows.shape[1] == 1:
        return operator == "Sigmoid"
    return _are_probabilities(np.exp(rows) if operator == "LogSoftmax" else rows)


def _are_probabilities(rows: np.ndarray) -> bool:
    return rows.shape[1] > 1 and bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) < _SUM).all())


def _unnormalised(graph: GraphProto, name: str) -> str:
    """What shares were made of: dividing a row by its sum moves its logs by one number, which no softmax sees."""
    maker = producers(graph).get(name)
    shares = maker is not None and maker.op_type == "LpNormalization" and attribute(maker, "p", 2) == 1
    return maker.input[0] if maker is not None and shares else name


def _log_(graph: GraphProto, name: str) -> str:
    """Log of what is at least `_TINY`, so that none is infinite."""
    graph.initializer.append(numpy_helper.from_array(np.array(_TINY, np.float32), f"{name}_least"))
    graph.node.append(helper.make_node("Max", [name, f"{name}_least"], [f"{name}_some"], name=f"{name}_some"))
    return _node_(graph, "Log", f"{name}_some")


def _two_(graph: GraphProto, name: str) -> str:
    """[batch, 1] to [batch, 2]: a softmax of 0 and x gives the sigmoid of x."""
    graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 0, 0]), f"{name}_pads"))
    graph.node.append(helper.make_node("Pad", [name, f"{name}_pads"], [f"{name}_two"], name=f"{name}_two"))
    return f"{name}_two"


def _node_(graph: GraphProto, operator: str, name: str, **attributes: int) -> str:
    made = f"{name}_{operator.lower()}"
    node = helper.make_node(operator, [name], [made], name=made)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    graph.node.append(node)
    return made


def _close_(graph: GraphProto, name: str) -> None:
    """Gives a tensor the output's name; one that others read as well keeps its own beside it."""
    if name == OUTPUT:
        return
    if readers(graph)[name]:
        graph.node.append(helper.make_node("Identity", [name], [OUTPUT], name=OUTPUT))
    else:
        rename_(graph, name, OUTPUT)
