"""Structured pruning: the cut itself, through everything that is coupled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from edgec.compress.coupling import traced
from edgec.core.errors import UnsupportedError
from edgec.models.attention import Attention, FewerHeads

__all__ = ["prune"]


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
        if isinstance(layer, Attention):
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
