"""Structured channel pruning over torch-pruning's dependency graph, to a share of the multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch_pruning import DependencyGraph, prune_conv_out_channels, prune_linear_out_channels

from edgec.compress.flops import layer_flops
from edgec.core.errors import ConfigError, UnsupportedError

__all__ = ["Coupled", "coupled_channels", "kept_channels", "prune"]


@dataclass(frozen=True, kw_only=True)
class Coupled:
    """Channels that can only go together: one layer makes them, others scale or take them.

    Attributes:
        producer: Name of the convolution or linear layer whose outputs they are.
        judge: Name of the layer whose output is judged: the producer's batch norm where it has one, because a
            channel's shift goes with it.
        channels: How many there are.
        outputs: Layer name to the number of its output channels that belong here.
        inputs: Layer name to the number of its input channels that belong here.
    """

    producer: str
    judge: str
    channels: int
    outputs: Mapping[str, int]
    inputs: Mapping[str, int]


def prune(module: nn.Module, kept: Mapping[str, Int[Tensor, "kept"]], example: Tensor) -> nn.Module:
    """A copy of the module in which each named producer keeps only the given channels.

    Args:
        module: Left as it is.
        kept: Producer name to the indices of the channels that stay.
        example: An input that the graph is traced with.
    """
    pruned, graph = _traced(module, example)
    for name, stay in kept.items():
        layer = pruned.get_submodule(name)
        cut = prune_linear_out_channels if isinstance(layer, nn.Linear) else prune_conv_out_channels
        everything = layer.get_parameter("weight").shape[0]
        gone = sorted(set(range(everything)) - set(stay.tolist()))
        if gone:
            graph.get_pruning_group(layer, cut, idxs=gone).prune()
    return pruned


def coupled_channels(module: nn.Module, head: str, example: Tensor) -> list[Coupled]:
    """The channels inside blocks: those that one layer alone makes, and that do not reach the head.

    Channels that several layers add up to (a residual stream) and the features that the head takes stay whole,
    so that student and teacher can be compared feature by feature (MiR, arXiv 2201.02620).

    Raises:
        UnsupportedError: The model has no such channels.
    """
    traced, graph = _traced(module, example)
    names = {layer: name for name, layer in traced.named_modules()}
    groups = graph.get_all_groups(ignored_layers=[], root_module_types=[nn.Conv2d, nn.Linear])
    found = [c for c in (_coupled(group, names) for group in groups) if c and head not in {*c.inputs, *c.outputs}]
    if not found:
        raise UnsupportedError(
            "the model has no channels that can be pruned on their own",
            hint="use compress.method = 'none' to quantise it alone",
        )
    return sorted(found, key=lambda coupled: list(names.values()).index(coupled.producer))


def _traced(module: nn.Module, example: Tensor) -> tuple[nn.Module, DependencyGraph]:
    """A trainable copy, since frozen layers leave no trace, and its graph.

    Raises:
        UnsupportedError: torch-pruning does not understand the model.
    """
    traced = copy.deepcopy(module).eval().requires_grad_()
    try:
        return traced, DependencyGraph().build_dependency(traced, example_inputs=example)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"torch-pruning cannot follow the model's channels: {type(error).__name__}: {error}".splitlines()[0],
            hint="use compress.method = 'none' to quantise it alone",
        ) from error


def _coupled(group: Any, names: Mapping[nn.Module, str]) -> Coupled | None:
    """A torch-pruning group as a value; None where more than one dense layer makes its channels."""
    outputs: dict[str, int] = {}
    inputs: dict[str, int] = {}
    producers: list[str] = []
    norms: list[str] = []
    for dependency, indices in group.items:
        layer = dependency.target.module
        if layer not in names:
            continue
        name = names[layer]
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
        if grouped and layer.groups != layer.in_channels:
            return None
        if dependency.handler.__name__.endswith("in_channels") and not grouped:
            inputs[name] = inputs.get(name, 0) + len(indices)
            continue
        outputs[name] = len(indices)
        if isinstance(layer, nn.Conv2d | nn.Linear) and not grouped:
            producers.append(name)
        elif isinstance(layer, nn.BatchNorm2d) and layer.num_features == len(indices):
            norms.append(name)  # one that also takes other layers' channels (DenseNet) cannot judge these
    if len(producers) != 1 or not inputs:
        return None
    order = list(names.values())
    later = sorted((n for n in norms if order.index(n) > order.index(producers[0])), key=order.index)
    judge = later[0] if later else producers[0]
    return Coupled(producer=producers[0], judge=judge, channels=outputs[producers[0]], outputs=outputs, inputs=inputs)


def kept_channels(
    module: nn.Module, coupled: list[Coupled], example: Tensor, *, keep_flops: float, channel_multiple: int
) -> dict[str, int]:
    """How many channels each producer keeps: the same share everywhere, the largest that fits `keep_flops`.

    Raises:
        ConfigError: The share cannot be reached by these channels.
    """
    flops = layer_flops(module, example)
    total = sum(flops.values())
    layers = dict(module.named_modules())
    options = sorted({i / c.channels for c in coupled for i in range(1, c.channels + 1)})
    low, high = 0, len(options) - 1
    plans = [{c.producer: _rounded(share, c.channels, channel_multiple) for c in coupled} for share in options]
    if _flops_left(flops, layers, coupled, plans[0]) > keep_flops * total:
        least = _flops_left(flops, layers, coupled, plans[0]) / total
        raise ConfigError(
            f"keep_flops = {keep_flops}: pruning inside the blocks in multiples of {channel_multiple} channels "
            f"leaves at least {least:.2f} of the multiply-adds",
            hint=f"set compress.keep_flops to {least + 0.005:.2f} or more",
        )
    while low < high:
        middle = (low + high + 1) // 2
        fits = _flops_left(flops, layers, coupled, plans[middle]) <= keep_flops * total
        low, high = (middle, high) if fits else (low, middle - 1)
    return plans[low]


def _rounded(share: float, channels: int, multiple: int) -> int:
    """A share of the channels, to the nearest multiple, at least one multiple, at most all."""
    if share == 1:
        return channels
    return min(channels, max(multiple, round(share * channels / multiple) * multiple))


def _flops_left(
    flops: Mapping[str, int], layers: Mapping[str, nn.Module], coupled: list[Coupled], kept: Mapping[str, int]
) -> float:
    """Multiply-adds after pruning; exact, since a layer's are proportional to its inputs times its outputs."""
    outs: dict[str, float] = {}
    ins: dict[str, float] = {}
    for group in coupled:
        gone = 1 - kept[group.producer] / group.channels
        for name, count in group.outputs.items():
            outs[name] = outs.get(name, 0) + gone * count
        for name, count in group.inputs.items():
            ins[name] = ins.get(name, 0) + gone * count
    left = 0.0
    for name, count in flops.items():
        weight = getattr(layers[name], "weight", torch.empty(1, 1))
        out_share = 1 - outs.get(name, 0) / weight.shape[0]
        in_share = 1 - ins.get(name, 0) / weight.shape[1]
        left += count * out_share * in_share
    return left
