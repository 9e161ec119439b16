"""Residual blocks that can be dropped whole: found by what they do, whatever their class is called."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Block", "residual_blocks", "without_blocks"]

DENSE = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)
"""Where the multiply-adds are: without one of these there is nothing to save."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block with an identity shortcut.

    Attributes:
        name: Its name in the net.
        channels: Channels in and out.
        channels_last: Whether they are the last dimension, as in a transformer, or the second.
    """

    name: str
    channels: int
    channels_last: bool


def residual_blocks(module: nn.Module, images: Tensor) -> list[Block]:
    """The innermost modules that pass their input on unchanged once all their parameters are zero.

    That is what dropping them comes down to: the branch is gone, the shortcut is left. A block with a projection in
    its shortcut gives zeros instead; one that ends in ReLU qualifies where its input is never negative, behind
    another ReLU.

    Args:
        module: In evaluation mode.
        images: A few real images.
    """
    taken: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}

    def before(name: str, _: nn.Module, inputs: tuple[object, ...]) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            taken[name] = inputs[0].clone()  # the block may work in place

    def after(name: str, _: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            given[name] = output

    parts = {name: part for name, part in module.named_modules() if name and _has(part, *DENSE)}
    handles = [part.register_forward_pre_hook(partial(before, name)) for name, part in parts.items()]
    handles += [part.register_forward_hook(partial(after, name)) for name, part in parts.items()]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    same_shape = [name for name in parts if name in taken and name in given and taken[name].shape == given[name].shape]
    passing = [name for name in same_shape if _passes(parts[name], taken[name])]
    innermost = [name for name in passing if not any(other.startswith(f"{name}.") for other in passing)]
    return [_block(name, parts[name], taken[name]) for name in innermost]


def _passes(part: nn.Module, taken: Tensor) -> bool:
    zeros = {name: torch.zeros_like(parameter) for name, parameter in part.named_parameters()}
    with torch.no_grad():
        return bool(taken.any()) and torch.equal(functional_call(part, zeros, (taken.clone(),)), taken)


def _block(name: str, part: nn.Module, taken: Tensor) -> Block:
    channels_last = not _has(part, nn.Conv2d)
    return Block(name=name, channels=taken.shape[-1 if channels_last else 1], channels_last=channels_last)


def _has(part: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(layer, kinds) for layer in part.modules())


def without_blocks(module: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy in which `nn.Identity` stands in the place of the named blocks."""
    left = copy.deepcopy(module)
    for name in names:
        left.set_submodule(name, nn.Identity())
    return left
