"""Multiply-adds, by layer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from edgec.models.attention import Attention

__all__ = ["layer_flops", "total_flops"]


def layer_flops(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-adds of every convolution, linear and attention layer for one image, by layer name."""
    counts: dict[str, int] = {}

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        is_attention = isinstance(layer, Attention)
        products = _attention(layer, inputs[0], inputs[1]) if is_attention else _dense(layer, output)
        counts[name] = counts.get(name, 0) + products

    counted = nn.Conv2d | nn.Linear | Attention
    handles = [
        layer.register_forward_hook(partial(count, name))
        for name, layer in module.named_modules()
        if isinstance(layer, counted)
    ]
    try:
        with torch.no_grad():
            module(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _dense(layer: nn.Module, output: Tensor) -> int:
    weight = layer.get_parameter("weight")
    return output[0].numel() // weight.shape[0] * weight.numel()


def _attention(layer: Attention, query: Tensor, key: Tensor) -> int:
    """Projections in and out of every token, then each query's products with all keys and all values."""
    queries, keys = (tokens.shape[1 if layer.batch_first else 0] for tokens in (query, key))
    embed, inner = layer.out_proj.weight.shape
    return 2 * inner * (embed * (queries + keys) + queries * keys)


def total_flops(module: nn.Module, example: Tensor) -> int:
    """Multiply-adds of one image through all convolutions, linear and attention layers."""
    return sum(layer_flops(module, example).values())
