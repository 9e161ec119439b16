"""A deck as one graph: a gate looks at the image, and of several nets the one that it picks is run.

ONNX's `If` runs one of two branches, so a deck takes one image at a time and costs one member and the gate. Whatever
runs a graph of one net runs a deck as well: on the device, in the server, where gates are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.core.errors import UnsupportedError
from edgec.core.gate import LEAST_POWER, MEMBER, Gate, Rings

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

__all__ = ["deck_of", "is_deck", "members_alone", "unfolded"]

_GATE = "gate/"
"""What names of the gate's tensors begin with; a member's begin with its own name."""
_CHOICE = "If"
_LEAST_OPSET = 18
"""From which axes are inputs, and Split takes a number."""


def deck_of(members: Mapping[str, ModelProto], gate: Gate) -> ModelProto:
    """Joins nets that take the same images and give the same classes.

    Args:
        members: By name, in the order of the gate's scores; at least two, each with one float32 input [n, channels,
            height, width] and logits as its first output.
        gate: Picks one of them for an image.

    Raises:
        UnsupportedError: They differ in input, classes, opset or functions.
    """
    from onnx import TensorProto, checker, helper

    first = next(iter(members.values()))
    _require_alike(members)
    channels, height, width = (axis.dim_value for axis in first.graph.input[0].type.tensor_type.shape.dim[1:])
    name, logits = first.graph.input[0].name, first.graph.output[0]
    looked, constants = _gate_nodes(name, Rings(height, width), gate)
    branches = [_branch(label, member, logits.name) for label, member in members.items()]
    chosen, numbers = _choice(branches, logits.name)
    graph = helper.make_graph(
        [*looked, *chosen],
        "deck",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width])],
        [
            helper.make_tensor_value_info(logits.name, TensorProto.FLOAT, [1, _shape(logits)[1]]),
            helper.make_tensor_value_info(MEMBER, TensorProto.INT64, [1]),
        ],
        [*constants, *numbers],
    )
    deck = helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)
    deck.metadata_props.extend(first.metadata_props)
    deck.producer_name, deck.producer_version = first.producer_name, first.producer_version
    checker.check_model(deck)
    return deck


def is_deck(model: ModelProto) -> bool:
    """Whether a graph is one that `deck_of` made."""
    return [output.name for output in model.graph.output[1:]] == [MEMBER]


def unfolded(graph: GraphProto) -> GraphProto:
    """A deck's graph with the nets of all members side by side, as whoever lists layers wants it."""
    return _without_choice(graph, _members(graph))


def members_alone(deck: ModelProto) -> Iterator[ModelProto]:
    """A deck as it runs where each member is picked, in order: the gate, and that net."""
    for branch in _members(deck.graph):
        alone = type(deck)()
        alone.CopyFrom(deck)
        alone.graph.CopyFrom(_without_choice(deck.graph, [branch]))
        yield alone


def _require_alike(members: Mapping[str, ModelProto]) -> None:
    (label, first), *others = members.items()
    opsets = {each.domain: each.version for each in first.opset_import}
    if opsets.get("", 0) < _LEAST_OPSET or first.functions:
        raise UnsupportedError(f"a deck takes graphs of opset {_LEAST_OPSET} and above, without functions")
    for other, model in others:
        same = {each.domain: each.version for each in model.opset_import} == opsets and not model.functions
        if not same or _ports(model) != _ports(first):
            raise UnsupportedError(f"members '{label}' and '{other}' of a deck differ in input, classes or opset")


def _ports(model: ModelProto) -> list[tuple[str, tuple[int | str, ...]]]:
    return [(port.name, _shape(port)) for port in (model.graph.input[0], model.graph.output[0])]


def _shape(port: ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(axis.dim_value or axis.dim_param for axis in port.type.tensor_type.shape.dim)


def _gate_nodes(image: str, rings: Rings, gate: Gate) -> tuple[list[NodeProto], list[TensorProto]]:
    """What `Gate.picks` computes, of one image."""
    from onnx import helper, numpy_helper

    tile, (rows, columns) = rings.tile, rings.tiles
    constants = {
        "channels": np.array([1], np.int64),
        "corner": np.array([0, 0], np.int64),
        "ends": np.array([rows * tile, columns * tile], np.int64),
        "axes": np.array([1, 2], np.int64),
        "tiles": np.array([rows, tile, columns, tile], np.int64),
        "waves": rings.waves,
        "halves": np.array([rows, columns, 2, tile, 2, tile], np.int64),
        "flat": np.array([rows * columns, tile * tile], np.int64),
        "first": np.array([0], np.int64),
        "means": rings.means,
        "least": np.array(LEAST_POWER, np.float32),
        "weights": np.array(gate.weights, np.float32).T,
        "bias": np.array(gate.bias, np.float32),
    }
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("ReduceMean", [image, "channels"], ["grey"], {"keepdims": 0}),
        ("Slice", ["grey", "corner", "ends", "axes"], ["whole"], {}),
        ("Reshape", ["whole", "tiles"], ["rows"], {}),
        ("Transpose", ["rows"], ["tiled"], {"perm": [0, 2, 1, 3]}),
        ("MatMul", ["tiled", "waves"], ["across"], {}),
        ("Transpose", ["across"], ["turned"], {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["turned", "waves"], ["both"], {}),
        ("Reshape", ["both", "halves"], ["parts"], {}),
        ("Split", ["parts"], ["cosines", "sines"], {"axis": 2, "num_outputs": 2}),
        ("Split", ["cosines"], ["cc", "cs"], {"axis": 4, "num_outputs": 2}),
        ("Split", ["sines"], ["sc", "ss"], {"axis": 4, "num_outputs": 2}),
        ("Sub", ["cc", "ss"], ["real"], {}),
        ("Add", ["cs", "sc"], ["imaginary"], {}),
        ("Mul", ["real", "real"], ["real2"], {}),
        ("Mul", ["imaginary", "imaginary"], ["imaginary2"], {}),
        ("Add", ["real2", "imaginary2"], ["powers"], {}),
        ("Reshape", ["powers", "flat"], ["rowed"], {}),
        ("ReduceMean", ["rowed", "first"], ["power"], {"keepdims": 1}),
        ("MatMul", ["power", "means"], ["mean"], {}),
        ("Add", ["mean", "least"], ["above"], {}),
        ("Log", ["above"], ["spectrum"], {}),
        ("MatMul", ["spectrum", "weights"], ["weighed"], {}),
        ("Add", ["weighed", "bias"], ["scores"], {}),
    ]

    def named(tensor: str) -> str:
        return tensor if tensor == image else _GATE + tensor

    nodes = [
        helper.make_node(kind, [*map(named, taken)], [*map(named, made)], named(made[0]), **attributes)
        for kind, taken, made, attributes in steps
    ]
    nodes.append(helper.make_node("ArgMax", [named("scores")], [MEMBER], named("pick"), axis=1, keepdims=0))
    return nodes, [numpy_helper.from_array(value, named(name)) for name, value in constants.items()]


def _branch(label: str, model: ModelProto, logits: str) -> GraphProto:
    """A member as a branch: all its tensors are its own but the image, which it takes from around."""
    from onnx import helper

    graph = model.graph
    image = graph.input[0].name

    def named(tensor: str) -> str:
        return tensor if tensor in ("", image) else f"{label}/{tensor}"

    nodes, constants = [], []
    for node in graph.node:
        own = type(node)()
        own.CopyFrom(node)
        own.name = named(node.name)
        own.input[:], own.output[:] = map(named, node.input), map(named, node.output)
        nodes.append(own)
    for tensor in graph.initializer:
        held = type(tensor)()
        held.CopyFrom(tensor)
        held.name = named(tensor.name)
        constants.append(held)
    output = helper.make_tensor_value_info(
        named(logits), graph.output[0].type.tensor_type.elem_type, list(_shape(graph.output[0]))
    )
    return helper.make_graph(nodes, label, [], [output], constants)


def _choice(branches: Sequence[GraphProto], logits: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """The first member's branch where it is picked; else a choice among the others."""
    from onnx import TensorProto, helper, numpy_helper

    compared: list[NodeProto] = []
    numbers: list[TensorProto] = []
    for position, branch in enumerate(branches[:-1]):
        number, same = f"{_GATE}number of {branch.name}", f"{_GATE}is {branch.name}"
        numbers.append(numpy_helper.from_array(np.array([position], np.int64), number))
        compared.append(helper.make_node("Equal", [MEMBER, number], [same], name=same))

    def among(position: int, made: str) -> NodeProto:
        branch, others = branches[position], branches[position + 1 :]
        other = others[0]
        if len(others) > 1:
            inner = f"{_GATE}of {' '.join(each.name for each in others)}"
            value = helper.make_tensor_value_info(inner, TensorProto.FLOAT, list(_shape(branch.output[0])))
            other = helper.make_graph([among(position + 1, inner)], inner, [], [value])
        condition = compared[position].output[0]
        name = f"{_GATE}run {branch.name}"
        return helper.make_node(_CHOICE, [condition], [made], name=name, then_branch=branch, else_branch=other)

    return [*compared, among(0, logits)], numbers


def _members(graph: GraphProto) -> list[GraphProto]:
    """The branches of a deck's choice, in order; none where there is no choice."""
    for node in graph.node:
        if node.op_type == _CHOICE:
            then, other = (
                next(a.g for a in node.attribute if a.name == f"{which}_branch") for which in ("then", "else")
            )
            return [then, *(_members(other) or [other])]
    return []


def _without_choice(graph: GraphProto, branches: Sequence[GraphProto]) -> GraphProto:
    """The graph with the nodes and constants of some branches in the choice's place; the first gives the logits."""
    from onnx import helper

    flat = type(graph)()
    flat.CopyFrom(graph)
    del flat.node[:]
    flat.node.extend(node for node in graph.node if node.op_type != _CHOICE)
    for branch in branches:
        flat.node.extend(branch.node)
        flat.initializer.extend(branch.initializer)
    flat.node.append(helper.make_node("Identity", [branches[0].output[0].name], [graph.output[0].name]))
    return flat
