"""Structured pruning of coupled channels: how many may stay for a share of the multiply-adds, and the cut itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import lcm
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from edgec.compress.coupling import Coupled, coupled_channels, traced
from edgec.compress.flops import layer_flops
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.models.attention import FewerHeads

__all__ = ["Coupled", "coupled_channels", "kept_channels", "prune"]


def prune(module: nn.Module, kept: Mapping[str, Int[Tensor, "kept"]], example: Tensor) -> nn.Module:
    """A copy of the module in which each named producer keeps only the given channels.

    Args:
        module: Left as it is.
        kept: Producer name to the indices of the channels that stay; of attention and in front of a grouped
            convolution, whole units (`Coupled.unit`).
        example: An input that the graph is traced with.

    Raises:
        UnsupportedError: What is left does not run: the model asks for its full width somewhere out of sight.
    """
    pruned, graph = traced(module, example)
    gone: dict[tuple[nn.Module, Callable[..., Any]], set[int]] = {}
    for name, stay in kept.items():
        layer = pruned.get_submodule(name)
        if isinstance(layer, nn.MultiheadAttention):
            pruned.set_submodule(name, FewerHeads(layer, stay.sort().values))
            continue
        leaving = sorted(set(range(len(layer.get_parameter("weight")))) - set(stay.tolist()))
        for node, cut_off, indices in graph.tied_to(layer, leaving):
            gone.setdefault((node.module, cut_off), set()).update(indices)
    for (layer, cut_off), indices in gone.items():
        cut_off(layer, sorted(indices))
    _require_runs(pruned, example)
    return pruned


def _require_runs(pruned: nn.Module, example: Tensor) -> None:
    try:
        with torch.no_grad():
            pruned(example)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"the model does not run with fewer channels: {type(error).__name__}: {error}".splitlines()[0],
            hint="use compress.method = 'practise', which drops whole blocks, or 'none' to quantise it alone",
        ) from error


def kept_channels(
    module: nn.Module, coupled: list[Coupled], example: Tensor, *, keep_flops: float, channel_multiple: int
) -> dict[str, int]:
    """How many channels each producer keeps: the same share everywhere, the largest that fits `keep_flops`.

    Raises:
        ConfigError: The share cannot be reached by these channels.
    """
    flops = layer_flops(module, example)
    total = sum(flops.values())
    left = partial(_flops_left, flops, dict(module.named_modules()), coupled)
    options = sorted({i / c.channels for c in coupled for i in range(1, c.channels + 1)})
    plans = [{c.producer: _rounded(share, c, channel_multiple) for c in coupled} for share in options]
    low, high = 0, len(options) - 1
    if left(plans[0]) > keep_flops * total:
        least = left(plans[0]) / total
        raise ConfigError(
            f"keep_flops = {keep_flops}: pruning inside the blocks in multiples of {channel_multiple} channels "
            f"leaves at least {least:.2f} of the multiply-adds",
            hint=f"set compress.keep_flops to {least + 0.005:.2f} or more",
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left(plans[middle]) <= keep_flops * total else (low, middle - 1)
    return plans[low]


def _rounded(share: float, coupled: Coupled, multiple: int) -> int:
    """A share of the channels, to the nearest multiple in whole units, at least one multiple, at most all."""
    if share == 1:
        return coupled.channels
    step = lcm(multiple, coupled.unit)
    return min(coupled.channels, max(step, round(share * coupled.channels / step) * step))


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
        width_out, width_in = _widths(layers[name])
        left += count * (1 - outs.get(name, 0) / width_out) * (1 - ins.get(name, 0) / width_in)
    return left


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Output and input channels; attention's inner width counts as output."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.embed_dim, layer.embed_dim
    outs, ins = layer.get_parameter("weight").shape[:2]
    return outs, ins
