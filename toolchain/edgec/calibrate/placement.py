"""Which operators of a graph compute in int8 on a target, and which activations are rounded for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from edgec.core.target import Scheme
from edgec.graph.kernels import CLAMPS, ELEMENTWISE, INTEGER, MOVERS, POOLS
from edgec.graph.view import WEIGHTED, Graph, attribute

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from edgec.core.target import Target

__all__ = ["Placement", "place"]

_ONNXRUNTIME = INTEGER - {"Softmax"} | CLAMPS | MOVERS
"""What is rounded for onnxruntime: probabilities are not, 256 levels of them would make ties."""
_FOLLOWERS = CLAMPS | MOVERS - {"Pad", "Split"} | {"Resize"}
"""Operators that onnxruntime's quantiser leaves in floating point where their input is."""

_FEW_PRODUCTS = 32
"""A 3x3 convolution of three channels has 27."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What becomes int8.

    Attributes:
        operators: Operator types that may compute in int8.
        excluded: Names of nodes of these types that stay in floating point.
        tensors: Activations whose ranges must be observed, in the order of the graph.
        shared: Activations that take the range of another: what only a ReLU or a clip reads, that of its output; what
            an operator merely moved, that of its input.
        kept: Activations that are never rounded.
        shortcuts: Inputs of residual additions to round although no weighted operator reads them.
        loose: Activations that operators without weights round, each with the names of all operators that must stay in
            floating point for it to stay there.
        rounds_outputs: Whether operators round what they produce, or only what they take.
    """

    operators: frozenset[str]
    excluded: tuple[str, ...]
    tensors: tuple[str, ...]
    shared: dict[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    shortcuts: tuple[str, ...] = ()
    loose: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rounds_outputs: bool = True


def place(model: ModelProto, target: Target, *, floats: Collection[str] = ()) -> Placement:
    """Decides where to round.

    onnxruntime fuses an operator that has integers on all sides, so every input and output is rounded, but not the
    logits: 256 levels would make ties between classes. On x86 a first convolution of few products stays in floating
    point where a depthwise one follows it, as in MobileNets: in int8 it takes longer (benchmarks/int8_speed.py).

    TensorRT fuses what lies between two roundings, so only the inputs of weighted operators are rounded, and of an
    addition behind a convolution the other input, the shortcut; the convolution, the addition and the ReLU after it
    then become one kernel (as NVIDIA's ModelOpt places them).

    Args:
        model: As `prepare` makes it.
        target: Its engine decides.
        floats: Names of operators that are to stay in floating point, with or without weights.
    """
    graph = _Placeable(model.graph)
    if target.runtime.engine == "tensorrt":
        excluded = (*graph.unfit(WEIGHTED), *floats)
        shortcuts = graph.shortcuts(excluded)
        weighted = graph.nodes(WEIGHTED, excluded)
        return Placement(
            operators=WEIGHTED,
            excluded=excluded,
            tensors=graph.in_order([*(node.input[0] for node in weighted), *shortcuts.values()]),
            shortcuts=tuple(shortcuts.values()),
            loose=graph.loose_shortcuts(weighted, shortcuts),
            rounds_outputs=False,
        )
    slow = graph.slow_stem() if target.quantization.scheme is Scheme.U8S8 else ()
    excluded = (*graph.unfit(_ONNXRUNTIME), *slow, *floats)
    nodes = graph.rounding(graph.nodes(_ONNXRUNTIME, excluded))
    kept = frozenset(output.name for output in model.graph.output)
    shared = graph.shared(nodes, kept)
    touched = {name for node in nodes for name in (*node.input, *node.output)}
    return Placement(
        operators=_ONNXRUNTIME,
        excluded=excluded,
        tensors=graph.in_order(touched - kept - shared.keys()),
        shared=shared,
        kept=kept,
        loose=graph.loose(nodes, shared, kept),
    )


class _Placeable(Graph):
    """Questions that placement asks of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        super().__init__(graph)
        self._shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._constants = self._shapes.keys()

    def nodes(self, operators: frozenset[str], excluded: Iterable[str]) -> list[NodeProto]:
        """The nodes of these types that are not excluded."""
        left_out = set(excluded)
        return [node for node in self.proto.node if node.op_type in operators and node.name not in left_out]

    def rounding(self, nodes: Iterable[NodeProto]) -> list[NodeProto]:
        """Those of the nodes that round: what merely moves or clamps does so where its input is rounded before it."""
        rounded: set[str] = set()
        found = []
        for node in nodes:
            if node.op_type not in _FOLLOWERS or node.input[0] in rounded:
                rounded.update(node.input, node.output)
                found.append(node)
        return found

    def loose(
        self, nodes: Iterable[NodeProto], shared: Mapping[str, str], kept: frozenset[str]
    ) -> dict[str, tuple[str, ...]]:
        """As `Placement.loose`; of activations that share a range the one that gives it."""
        touching: dict[str, dict[str, bool]] = {}
        for node in nodes:
            if node.op_type not in _FOLLOWERS:
                for name in {shared.get(name, name) for name in (*node.input, *node.output)}:
                    touching.setdefault(name, {})[node.name] = node.op_type not in WEIGHTED
        found = {name: tuple(users) for name, users in touching.items() if any(users.values()) and name not in kept}
        return {name: found[name] for name in self.in_order(found)}

    def loose_shortcuts(
        self, weighted: Iterable[NodeProto], shortcuts: Mapping[str, str]
    ) -> dict[str, tuple[str, ...]]:
        """As `Placement.loose`, where only weighted operators and additions round."""
        users: dict[str, list[str]] = {name: [] for name in self.in_order(shortcuts.values())}
        for name, user in [*((node.input[0], node.name) for node in weighted), *((n, a) for a, n in shortcuts.items())]:
            if name in users:
                users[name].append(user)
        return {name: tuple(found) for name, found in users.items()}

    def unfit(self, operators: frozenset[str]) -> tuple[str, ...]:
        """Names of nodes that would lose by int8: constants added or multiplied, weights that are not constant."""
        return tuple(node.name for node in self.nodes(operators, ()) if self._is_unfit(node))

    def slow_stem(self) -> tuple[str, ...]:
        """The name of the first convolution where few products make a value of it and the next one is depthwise.

        Not where a pooling comes between: onnxruntime would move the rounding before it, and pool bytes channel by
        channel, at a thirtieth of the speed that it has with the channels of a pixel side by side.
        """
        nodes = [node for node in self.proto.node if node.op_type in POOLS or node.op_type == "Conv"][:2]
        shapes = [self._shapes.get(node.input[1], ()) for node in nodes if node.op_type == "Conv"]
        if len(shapes) < 2 or not all(shapes) or math.prod(shapes[0][1:]) >= _FEW_PRODUCTS:
            return ()
        groups = attribute(nodes[1], "group", 1)
        return (nodes[0].name,) if groups == shapes[0][0] > 1 else ()

    def shared(self, nodes: Iterable[NodeProto], kept: frozenset[str]) -> dict[str, str]:
        """Activations that take another's range, each with that other; `kept` neither give nor take."""
        source: dict[str, str] = {}
        for node in nodes:
            if node.op_type in MOVERS and not self._pads_with_a_value(node):
                source.update(dict.fromkeys(node.output, node.input[0]))
            elif node.op_type in CLAMPS and len(self.readers(node.input[0])) == 1:
                source[node.input[0]] = node.output[0]
        free = set(self._activations) - kept
        source = {name: other for name, other in source.items() if {name, other} <= free}
        return {name: _last(name, source) for name in source}

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """The floating-point activations among these, in the order in which the graph makes them."""
        wanted = set(names)
        return tuple(name for name in self._activations if name in wanted)

    def shortcuts(self, excluded: Collection[str]) -> dict[str, str]:
        """Of each residual addition that is not excluded the input that does not come straight from its convolution.

        Where both do, as when the shortcut is a strided 1x1 convolution, the one with fewer convolutions behind it.
        """
        found = {}
        for node in self.nodes(frozenset({"Add"}), excluded):
            if not self._constants & set(node.input):
                straight = [name for name in node.input if self._is_fusable(name)]
                if len(straight) == 1:
                    found[node.name] = next(name for name in node.input if name not in straight)
                elif straight:
                    found[node.name] = min(node.input, key=lambda name: self._depths[name])
        return found

    def _is_unfit(self, node: NodeProto) -> bool:
        constant = [name in self._constants or not name for name in node.input]
        if node.op_type in ELEMENTWISE:
            return any(constant)
        if node.op_type == "MatMul":
            return not constant[1]
        return node.op_type in WEIGHTED and not all(constant[1:])

    def _pads_with_a_value(self, node: NodeProto) -> bool:
        return node.op_type == "Pad" and any(node.input[2:3])

    def _is_fusable(self, name: str) -> bool:
        node = self.maker(name)
        return node is not None and node.op_type == "Conv" and len(self.readers(name)) == 1

    @cached_property
    def _depths(self) -> dict[str, int]:
        """Weighted operators on the longest way to each tensor."""
        depths: dict[str, int] = {}
        for node in self.proto.node:
            before = max((depths.get(name, 0) for name in node.input), default=0)
            depths.update(dict.fromkeys(node.output, before + (node.op_type in WEIGHTED)))
        return depths

    @cached_property
    def _activations(self) -> list[str]:
        from onnx import TensorProto

        graph = self.proto
        known = [*graph.input, *graph.value_info, *graph.output]
        floats = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        made = [*(value.name for value in graph.input), *(name for node in graph.node for name in node.output)]
        return [name for name in made if name in floats and name not in self._constants]


def _last(name: str, source: Mapping[str, str]) -> str:
    """Where a chain ends; moving leads up the graph and clamping down it, so there is no circle."""
    while name in source:
        name = source[name]
    return name
