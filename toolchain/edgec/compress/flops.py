"""Multiply-adds, by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["layer_flops", "total_flops"]


def layer_flops(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-adds of every convolution and linear layer for one image, by layer name."""
    counts: dict[str, int] = {}
    names: dict[nn.Module, str] = {
        layer: name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    }

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        positions = output[0].numel() // weight.shape[0]
        counts[names[layer]] = counts.get(names[layer], 0) + positions * weight.numel()

    handles = [layer.register_forward_hook(count) for layer in names]
    try:
        with torch.no_grad():
            module(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return counts


def total_flops(module: nn.Module, example: Tensor) -> int:
    """Multiply-adds of one image through all convolutions and linear layers."""
    return sum(layer_flops(module, example).values())
