"""Which channels of a net can only go together, read from torch-pruning's dependency graph (Fang et al. 2023)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch_pruning import DependencyGraph
from torch_pruning.ops import OPTYPE
from torch_pruning.pruner.function import DepthwiseConvPruner

from edgec.core.errors import UnsupportedError
from edgec.models.attention import can_lose_heads, inner_width

__all__ = ["ChannelGraph", "Coupled", "coupled_channels", "traced"]

PRODUCTS = frozenset({"MulBackward0", "DivBackward0"})
SUMS = frozenset({"AddBackward0", "SubBackward0"})
OPAQUE = frozenset({OPTYPE.PARAMETER, OPTYPE.SPLIT, OPTYPE.UNBIND, OPTYPE.SLICE, OPTYPE.CUSTOMIZED})
"""What ties channels to more than layers: loose parameters, the image, parts of a map, odd reshapes."""


@dataclass(frozen=True, kw_only=True)
class Coupled:
    """Channels that can only go together: one layer makes them, others scale or take them.

    Attributes:
        producer: Name of the convolution or linear layer whose outputs they are, or of the attention whose heads.
        judge: Name of the layer whose output is judged: the producer's batch norm where it has one, because a
            channel's shift goes with it. None for heads: no layer gives their outputs.
        channels: How many there are.
        unit: How many of them, side by side, stay or go as one: a group of a grouped convolution, or a head.
        outputs: Layer name to the number of its output channels that belong here.
        inputs: Layer name to the number of its input channels that belong here.
    """

    producer: str
    judge: str | None
    channels: int
    unit: int = 1
    outputs: Mapping[str, int]
    inputs: Mapping[str, int]


def coupled_channels(module: nn.Module, head: str, example: Tensor) -> list[Coupled]:
    """The channels inside blocks, in the order of their producers: those that are nowhere added to another layer's.

    Channels that several layers add up to (a residual stream) and the features that the head takes stay whole,
    so that student and teacher can be compared feature by feature (MiR, arXiv 2201.02620). Layers may share
    channels by multiplication: a squeeze-and-excitation gate loses the channels that the gated layer loses.

    Raises:
        UnsupportedError: The model has no such channels.
    """
    copied, graph = traced(module, example)
    names = {layer: name for name, layer in copied.named_modules()}
    found = [c for c in (*_inner(graph, names), *_heads(names)) if head not in {*c.inputs, *c.outputs}]
    if not found:
        raise UnsupportedError(
            "the model has no channels that can be pruned on their own",
            hint="use compress.method = 'none' to quantise it alone",
        )
    order = list(names.values())
    return sorted(found, key=lambda coupled: order.index(coupled.producer))


def traced(module: nn.Module, example: Tensor) -> tuple[nn.Module, ChannelGraph]:
    """A trainable copy, since frozen layers leave no trace, and its graph.

    Raises:
        UnsupportedError: torch-pruning does not understand the model.
    """
    copied = copy.deepcopy(module).eval().requires_grad_()
    image = nn.Parameter(example[:1].clone())  # as a parameter it has a place in the graph
    loose: Any = [(image, 1)]
    graph = ChannelGraph()
    try:
        with _quiet():
            graph.build_dependency(copied, [image], unwrapped_parameters=loose, verbose=False)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"torch-pruning cannot follow the model's channels: {type(error).__name__}: {error}".splitlines()[0],
            hint="use compress.method = 'none' to quantise it alone",
        ) from error
    return copied, graph


@contextmanager
def _quiet() -> Iterator[None]:
    """torch-pruning warns of its own limits; what it does not see stays whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class ChannelGraph(DependencyGraph):
    """torch-pruning's graph, but for grouped convolutions and reshapes, which it gets wrong.

    It takes every reshape for a flattening or its undoing: ShuffleNet's, which swaps channels between halves, makes
    it divide by zero, and those by windows and heads (Swin) keep it walking for minutes.
    """

    def tied_to(self, layer: nn.Module, channels: Sequence[int]) -> Iterator[tuple[Any, Callable[..., Any], list[int]]]:
        """What is cut when a layer loses output channels: node of the graph, function that cuts, its indices."""
        with _quiet():
            group = self.get_pruning_group(layer, self.get_pruner_of_module(layer).prune_out_channels, channels)
        return ((dependency.target, dependency.handler, indices) for dependency, indices in group.items)

    def get_pruner_of_module(self, module: Any) -> Any:
        """How a layer or an operation is cut."""
        return WHOLE_GROUPS if _is_grouped(module) else super().get_pruner_of_module(module)

    def _build_dependency(self, module2node: dict[Any, Any]) -> None:
        super()._build_dependency(module2node)
        for node in module2node.values():
            if node.type == OPTYPE.RESHAPE and not _keeps_channels(node.grad_fn):
                node.type = OPTYPE.CUSTOMIZED  # torch-pruning must not look at it
            if node.type in OPAQUE:
                node.dependencies = []  # whoever comes here is refused, so no walk goes on


class _WholeGroups(DepthwiseConvPruner):
    """Cuts whole groups: as in a depthwise convolution, the channels that go in are those that come out."""

    def prune_out_channels(self, layer: Any, idxs: Any) -> Any:
        width = layer.out_channels // layer.groups
        depthwise = super().prune_out_channels(layer, idxs)
        depthwise.groups = depthwise.out_channels // width
        return depthwise

    prune_in_channels = prune_out_channels


WHOLE_GROUPS = _WholeGroups()


def _is_grouped(layer: object) -> bool:
    """Whether it is a convolution whose groups can go one by one: each has as many channels in as out."""
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.in_channels == layer.out_channels


def _keeps_channels(reshape: Any) -> bool:
    """Whether a reshape leaves channels where they are: NCHW second, or last in maps of tokens; or flattens NCHW."""
    was, now = (list(shape) for shape in (reshape._saved_self_sym_sizes, reshape._input_metadata[0].shape))  # noqa: SLF001
    if len(was) == 4 and len(now) == 2:
        return True
    last, second = was[-1] == now[-1], was[:2] == now[:2]
    return len(was) <= 4 and len(now) <= 4 and (last or (second and len(was) != 3))


def _inner(graph: ChannelGraph, names: Mapping[nn.Module, str]) -> Iterator[Coupled]:
    """Groups of channels by their first producer; layers that share channels are visited once."""
    seen: set[str] = set()
    for layer, name in names.items():
        if name in seen or layer not in graph.module2node or not _is_dense(layer):
            continue
        reach = _Reach()
        for node, cut_off, indices in graph.tied_to(layer, range(len(layer.get_parameter("weight")))):
            if node.module in names:
                reach.add_layer(names[node.module], node.module, cut_off.__name__, len(indices))
            else:
                reach.add_operation(node)
        seen |= set(reach.producers)
        if coupled := reach.coupled(list(names.values())):
            yield coupled


def _is_dense(layer: object) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


@dataclass
class _Reach:
    """How far a group of channels reaches, gathered item by item."""

    outputs: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    producers: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    unit: int = 1
    added: bool = False
    opaque: bool = False

    def add_layer(self, name: str, layer: nn.Module, handler: str, channels: int) -> None:
        if handler.endswith("in_channels") and _is_dense(layer):
            self.inputs[name] = self.inputs.get(name, 0) + channels
            return
        self.outputs[name] = channels
        if _is_dense(layer):
            self.producers.append(name)
        elif isinstance(layer, nn.Conv2d) and _is_grouped(layer):
            self.unit = max(self.unit, layer.out_channels // layer.groups)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            if layer.num_features == channels:
                self.norms.append(name)  # one that also takes other layers' channels (DenseNet) cannot judge these
        elif not isinstance(layer, nn.LayerNorm) and list(layer.parameters()):
            self.opaque = True  # attention among them, whose width is the stream's

    def add_operation(self, node: Any) -> None:
        branches = [n for n in node.inputs if n.inputs or n.type != OPTYPE.ELEMENTWISE]  # no transposed weights
        if node.type in OPAQUE or not node.outputs:  # the latter is the net's result
            self.opaque = True
        elif node.type == OPTYPE.ELEMENTWISE and len(branches) > 1:
            kind = node.grad_fn.name()
            self.added |= kind in SUMS
            self.opaque |= kind not in PRODUCTS | SUMS  # products of matrices, among others

    def coupled(self, order: list[str]) -> Coupled | None:
        """What was gathered as a value; None where the channels cannot go, or where several layers add them up."""
        if self.opaque or not self.inputs or (self.added and len(self.producers) > 1):
            return None
        producer = min(self.producers, key=order.index)
        later = sorted((n for n in self.norms if order.index(n) > order.index(producer)), key=order.index)
        return Coupled(
            producer=producer,
            judge=later[0] if later else producer,
            channels=self.outputs[producer],
            unit=self.unit,
            outputs=self.outputs,
            inputs=self.inputs,
        )


def _heads(names: Mapping[nn.Module, str]) -> Iterator[Coupled]:
    """Attention's inner width, which goes by whole heads. Nothing outside the layer sees it."""
    for layer, name in names.items():
        if can_lose_heads(layer):
            width = inner_width(layer)
            unit = width // layer.num_heads
            yield Coupled(producer=name, judge=None, channels=width, unit=unit, outputs={name: width}, inputs={})
