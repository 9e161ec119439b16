"""What a net would take on a device with fewer channels or without some layers, from its graph as it is.

A search asks this for thousands of plans, so no graph is written for each. Where it is wrong, the graph of the net
that was really cut tells (`predict_latency`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgec.core.target import Target
from edgec.graph.view import WEIGHTED, Graph
from edgec.latency.roofline import compute_of, cost_of, moved_bytes
from edgec.latency.workload import OperatorClass, Work, kind_of_groups, read_workload

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["NarrowedLatency"]

_IN_GROUPS = frozenset({OperatorClass.GROUPED, OperatorClass.NARROW})


class NarrowedLatency:
    """Milliseconds of one image by the layers that are left; of the graph itself where all are.

    A product scales with the output and input channels of its layer, whose name it has; another operator with the
    channels that it carries, if one layer made them. With a layer goes what only serves it: what it alone feeds, what
    only it reads, and the sum that it is added in.

    Args:
        model: The graph of the whole net, in the number formats of the device.
        target: With `compute`.
        layers: Output and input channels of each layer of the whole net.

    Raises:
        UnsupportedError: The profile has no compute figures, or the graph's work cannot be counted.
    """

    def __init__(self, model: Path, target: Target, layers: Mapping[str, tuple[float, float]]) -> None:
        self._compute = compute_of(target)
        self._half = target.quantization.computes_in_half
        self._layers = layers
        self._ties = _Ties(onnx.load(model, load_external_data=False).graph)
        self._works = read_workload(model, batch=1, engine=target.runtime.engine)
        carriers = self._ties.carriers()
        self._carriers = tuple(carriers.get(work.name) for work in self._works)
        self._left = cache(self._left_without)
        self._cost = cache(self._cost_of)
        self._scaled = cache(self._scaled_work)

    def ms(self, layers: Mapping[str, tuple[float, float]]) -> float:
        """With these layers; one that is not there has gone."""
        gone = frozenset(name for name in self._layers if name not in layers)
        parts = [(at, *self._shares(self._carriers[at], layers)) for at in self._left(gone)]
        weights = sum(moved_bytes(self._scaled(*part).weights, self._compute, half=self._half) for part in parts)
        fast = self._compute.for_weights(weights) is not self._compute
        return sum(self._cost(*part, fast=fast) for part in parts)

    def _shares(self, layer: str | None, layers: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
        """Of outputs and inputs that are left; what has gone elsewhere narrows nothing here."""
        if layer is None or layer not in self._layers or layer not in layers:
            return 1.0, 1.0
        (outputs, inputs), (all_outputs, all_inputs) = layers[layer], self._layers[layer]
        return outputs / all_outputs, inputs / all_inputs

    def _left_without(self, gone: frozenset[str]) -> tuple[int, ...]:
        names = self._ties.gone_with(gone) if gone else frozenset()
        return tuple(at for at, work in enumerate(self._works) if work.name not in names)

    def _scaled_work(self, at: int, outputs: float, inputs: float) -> Work:
        work, layer = self._works[at], self._carriers[at]
        scaled = _scaled(work, outputs, inputs)
        if not work.kind.is_depthwise or layer is None or layer not in self._layers:
            return scaled
        return replace(scaled, kind=kind_of_groups(round(self._layers[layer][0] * outputs), 1))

    def _cost_of(self, at: int, outputs: float, inputs: float, *, fast: bool) -> float:
        compute = self._compute.for_weights(0) if fast else self._compute
        return cost_of(self._scaled(at, outputs, inputs), compute, half=self._half).latency_ms


def _scaled(work: Work, outputs: float, inputs: float) -> Work:
    """An operator with a share of its output and input channels."""
    if outputs == inputs == 1:
        return work
    written = work.traffic - work.taken - work.weights
    if not work.macs or work.kind.is_depthwise or work.kind in _IN_GROUPS:
        inputs, weights = outputs, work.weights * outputs
    else:
        weights = work.weights * (outputs * inputs)
    taken = work.taken * inputs
    moved = {"traffic": weights + taken + written * outputs, "weights": weights, "taken": taken}
    if not work.macs:
        return replace(work, effort=round(work.effort * outputs), **moved)
    if work.kind.is_depthwise or work.kind in _IN_GROUPS:
        return replace(work, rows=round(work.rows * outputs), **moved)
    return replace(work, outputs=round(work.outputs * outputs), channels=round(work.channels * inputs), **moved)


class _Ties:
    """Whose channels the nodes of a graph make or carry, and which nodes go with a layer."""

    def __init__(self, proto: GraphProto) -> None:
        self._graph = Graph(proto)
        self._nodes = tuple(node for node in proto.node if not self._graph.constants.issuperset(node.output))

    def carriers(self) -> dict[str, str]:
        """By node the layer that makes its output's channels, where one product with weights alone does."""
        by_tensor: dict[str, str] = {}
        found: dict[str, str] = {}
        for node in self._nodes:
            if node.op_type in WEIGHTED:
                layer = node.name if node.input[1] in self._graph.constants else None
            elif node.op_type in ("Concat", "Split"):
                layer = None
            else:
                layer = next((by_tensor[name] for name in node.input if name in by_tensor), None)
            if layer is not None:
                found[_name(node)] = layer
                by_tensor.update(dict.fromkeys(node.output, layer))
        return found

    def gone_with(self, layers: frozenset[str]) -> frozenset[str]:
        """Nodes that no device runs once these layers have gone, and what was added to them is passed on."""
        gone, passing = set[str](), set[str]()
        empty = set[str]()
        for node in self._nodes:
            taken = [name for name in node.input if name not in self._graph.constants]
            lost = [name for name in taken if name in empty]
            if node.name in layers or (lost and len(lost) == len(taken)):
                gone.add(_name(node))
                empty.update(node.output)
            elif lost:
                passing.add(_name(node))
        for node in reversed(self._nodes):
            read = [reader for name in node.output for reader in self._graph.readers(name)]
            if read and all(_name(reader) in gone for reader in read):
                gone.add(_name(node))
        return frozenset(gone | passing)


def _name(node: NodeProto) -> str:
    """As `Work` has it."""
    return node.name or node.output[0]
