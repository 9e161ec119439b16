"""DoReFa: weights and activations of k bits while a net is trained (Zhou et al. 2016, arXiv 1606.06160)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgec.core.errors import UnsupportedError

__all__ = ["dorefa", "dorefa_activations", "dorefa_weights", "quantized_layers"]

TINY = 1e-12
"""Keeps weights that are all zero finite."""
LAYERS = (nn.Conv2d, nn.Linear)


def dorefa(module: nn.Module, images: Tensor, *, weight_bits: int, activation_bits: int) -> nn.Module:
    """A copy whose convolutions and linear layers, but for the first and the last, compute with k-bit numbers.

    Parameters stay what they were and are trained; each pass rounds them anew. What a layer reads is clipped to
    [0, 1] and rounded, which takes the place of the paper's clipped activation in front of it: the sum of a residual
    block goes on along the shortcut as it is, and only the next convolution sees it rounded. Gradients are not
    quantised (32 bit), as in the study of docs/methods.md §2.

    Args:
        module: In evaluation mode; left as it is.
        images: Real images, [batch, channel, height, width]: they tell the order of the layers, and whether what
            these read is clipped from below already, as by ReLU.
        weight_bits: 2 or more; the paper has another formula for one bit.
        activation_bits: 1 or more.

    Raises:
        UnsupportedError: Weights in other layers, values below zero that clipping would lose, or nothing to quantise.
    """
    quantized = copy.deepcopy(module)
    for name in quantized_layers(quantized, images):
        layer = quantized.get_submodule(name)
        parametrize.register_parametrization(layer, "weight", _Weights(weight_bits))
        layer.register_forward_pre_hook(partial(_rounded_input, activation_bits))
    return quantized


def dorefa_weights(weight: Float[Tensor, "..."], bits: int) -> Float[Tensor, "..."]:
    """The paper's f_ω: 2 Q_k(tanh(w) / (2 max |tanh(w)|) + 1/2) − 1, of which there are 2^k values in [-1, 1].

    The gradient goes through Q_k as through the identity, and through everything else by the chain rule.
    """
    squashed = torch.tanh(weight)
    return 2 * _rounded(squashed / (2 * squashed.abs().max().clamp(min=TINY)) + 0.5, bits) - 1


def dorefa_activations(x: Float[Tensor, "..."], bits: int) -> Float[Tensor, "..."]:
    """The paper's f_α behind its clipped activation: Q_k(clip(x, 0, 1)), of which there are 2^k values.

    Where x is clipped there is no gradient; else Q_k passes it on as it is.
    """
    return _rounded(x.float().clamp(0, 1), bits)  # in full precision: bfloat16 knows no 255 levels


def quantized_layers(module: nn.Module, images: Tensor) -> list[str]:
    """Names of the layers that DoReFa quantises, in the order in which they run: all but the first and the last.

    Raises:
        UnsupportedError: As `dorefa`.
    """
    for name, part in module.named_modules():
        if not isinstance(part, LAYERS) and any(p.ndim > 1 for p in part.parameters(recurse=False)):
            where = f"layer '{name}'" if name else "the model"
            raise UnsupportedError(
                f"{where} ({type(part).__name__}) has weights that are neither a convolution's nor a linear layer's",
                hint="DoReFa is for convolutional nets: leave its compressions out",
            )
    with _lowest_inputs(module) as lowest, torch.no_grad():
        module(images)
    inner = list(lowest)[1:-1]
    if not inner:
        raise UnsupportedError(
            f"{len(lowest)} layers with weights: DoReFa leaves the first and the last as they are",
            hint="take a deeper model, or leave its compressions out",
        )
    for name in inner:
        if lowest[name] < 0:
            raise UnsupportedError(
                f"layer '{name}' reads values below zero, down to {lowest[name]:.3g}: DoReFa's activations lie in "
                "[0, 1], so there must be a ReLU before it",
                hint="DoReFa is for nets with ReLU: leave its compressions out",
            )
    return inner


@contextmanager
def _lowest_inputs(module: nn.Module) -> Iterator[dict[str, float]]:
    """Fills with the least value that each layer reads, while open; layers in the order in which they run."""
    lowest: dict[str, float] = {}

    def watch(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        lowest[name] = min(lowest.get(name, float("inf")), float(inputs[0].min()))

    layers = {name: part for name, part in module.named_modules() if isinstance(part, LAYERS)}
    handles = [layer.register_forward_pre_hook(partial(watch, name)) for name, layer in layers.items()]
    try:
        yield lowest
    finally:
        for handle in handles:
            handle.remove()


class _Weights(nn.Module):
    """What `parametrize` puts between the parameter and the layer."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        return dorefa_weights(weight, self.bits)


def _rounded_input(bits: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (dorefa_activations(inputs[0], bits), *inputs[1:])


def _rounded(x: Float[Tensor, "..."], bits: int) -> Float[Tensor, "..."]:
    """The paper's quantize_k: x in [0, 1] to the nearest of k / (2^k − 1); the gradient passes straight through."""
    return _StraightThrough.apply(x, 2**bits - 1)  # pyright: ignore[reportReturnType]  # apply is untyped


class _StraightThrough(torch.autograd.Function):
    """Exact levels: x + (q − x).detach() would round once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: int) -> Tensor:
        del ctx
        return torch.round(x * steps) / steps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        del ctx
        return gradients[0], None
