"""Filter-rank pruning of a trained net (Li et al. 2017, arXiv 1608.08710), and what its weights take."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Int
from torch import Tensor, nn

from edgec.compress.coupling import Coupled, coupled_channels
from edgec.compress.prune import prune
from edgec.core.errors import UnsupportedError
from edgec.models.taps import find_tap

__all__ = ["prune_filters", "weight_bits", "weight_count"]


def prune_filters(module: nn.Module, example: Tensor, *, sparsity: float) -> nn.Module:
    """A copy without the filters that are least in the mean of their absolute weights.

    The same share of the filters goes in every convolution that nothing but its block reads: in a CIFAR ResNet, the
    first convolution of each block. The layer that reads the image stays as it is. One filter is always left.

    Args:
        module: Left as it is.
        example: A batch of images that the net is traced with.
        sparsity: Share of the filters that go, from 0 to 1.

    Raises:
        UnsupportedError: The net has no such convolution, or does not run with fewer filters.
    """
    first = next((name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)), None)
    inner = [
        coupled
        for coupled in coupled_channels(module, find_tap(module, example).head, example)
        if isinstance(module.get_submodule(coupled.producer), nn.Conv2d) and coupled.producer != first
    ]
    if not inner:
        raise UnsupportedError(
            "the model has no convolution whose filters can go on their own",
            hint="leave out the compressions that prune",
        )
    return prune(module, {coupled.producer: _kept(module, coupled, sparsity) for coupled in inner}, example)


def _kept(module: nn.Module, coupled: Coupled, sparsity: float) -> Int[Tensor, "kept"]:
    """Indices of the filters that stay, rising; filters of a unit stay together."""
    weight = module.get_submodule(coupled.producer).get_parameter("weight").detach()
    ranks = weight.abs().flatten(1).mean(1).unflatten(0, (-1, coupled.unit)).sum(1)
    units = ranks.topk(max(1, round((1 - sparsity) * len(ranks)))).indices.sort().values
    return (units[:, None] * coupled.unit + torch.arange(coupled.unit)).flatten()


def weight_count(module: nn.Module) -> int:
    """Weights of convolutions and linear layers, as the paper counts them: without biases and batch norm."""
    return sum(layer.weight.numel() for _, layer in _layers(module))


def weight_bits(module: nn.Module, quantized: Collection[str] = (), bits: int = 32) -> int:
    """What these weights take: `bits` each in the layers named, 32 in the others."""
    return sum(layer.weight.numel() * (bits if name in quantized else 32) for name, layer in _layers(module))


def _layers(module: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
