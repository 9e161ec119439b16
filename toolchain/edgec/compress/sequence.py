"""The layers of a transformer that follow one another and differ in nothing but their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgec.compress.blocks import Block, residual_blocks
from edgec.core.errors import UnsupportedError

__all__ = ["layer_sequence", "layers_of_depth"]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What a layer took, the names of what it was given beside, and what it gave."""

    taken: Tensor
    beside: tuple[str, ...]
    given: Tensor


def layer_sequence(module: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Names of a transformer's layers, in the order in which they run; a sum of their weights is a layer as well.

    That holds where every layer takes what the one before gave, all have the same parameters, and each does what the
    first does once it has the first's weights. All of it is tried on images: no class is known by its name.

    Args:
        module: In evaluation mode.
        images: A few real images.

    Raises:
        UnsupportedError: It has no such layers; says which of them differs, and in what.
    """
    blocks = residual_blocks(module, images)
    if (odd := _why_not_alike(module, blocks)) is not None:
        raise _refused(odd)
    calls = _calls(module, [block.name for block in blocks], images)
    names = tuple(calls)
    for before, after in pairwise(names):
        if not torch.equal(calls[before].given, calls[after].taken):
            raise _refused(f"there is something between '{before}' and '{after}'")
    first = names[0]
    call, weights = calls[first], dict(module.get_submodule(first).state_dict())
    if call.beside:
        raise _refused(f"'{first}' is given '{call.beside[0]}' beside its input")
    for name in names[1:]:
        with torch.no_grad():
            given = functional_call(module.get_submodule(name), weights, (call.taken,))
        if not torch.allclose(given, call.given, rtol=1e-4, atol=1e-5):  # sums in another order
            raise _refused(f"'{name}' gives something else than '{first}' with the same weights")
    return names


def layers_of_depth(layers: Sequence[str], depth: int) -> list[str]:
    """The layers in whose places those of a net of fewer layers are: evenly spread, the first and the last among them.

    Of a net of one layer it is the middle one.
    """
    whole = len(layers)
    return [layers[whole // 2]] if depth == 1 else [layers[round(i * (whole - 1) / (depth - 1))] for i in range(depth)]


def _why_not_alike(module: nn.Module, blocks: Sequence[Block]) -> str | None:
    if len(blocks) < 2:
        return f"the model has {len(blocks) or 'no'} residual block{'s' * (not blocks)}"
    convolutional = next((block.name for block in blocks if not block.channels_last), None)
    if convolutional is not None:
        return f"'{convolutional}' is a block of convolutions"
    first = _shapes(module.get_submodule(blocks[0].name))
    for block in blocks[1:]:
        own = _shapes(module.get_submodule(block.name))
        odd = next((name for name in {**first, **own} if first.get(name) != own.get(name)), None)
        if odd is not None:
            shapes = (
                f"'{place}.{odd}' {_told(of.get(odd))}" for place, of in ((blocks[0].name, first), (block.name, own))
            )
            return f"{' and '.join(shapes)}"
    return None


def _shapes(layer: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in layer.state_dict().items()}


def _told(shape: torch.Size | None) -> str:
    return "is not there" if shape is None else f"is {' x '.join(map(str, shape)) or 'a number'}"


def _calls(module: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, _Call]:
    """By the names of the layers, in the order in which they ran."""
    calls: dict[str, _Call] = {}

    def note(name: str, _: nn.Module, taken: tuple[Tensor, ...], beside: dict[str, Any], given: Tensor) -> None:
        calls[name] = _Call(taken=taken[0], beside=tuple(beside), given=given)

    handles = [
        module.get_submodule(name).register_forward_hook(partial(note, name), with_kwargs=True) for name in names
    ]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _refused(why: str) -> UnsupportedError:
    return UnsupportedError(
        "method 'learngene' recomposes the layers of a transformer, which must be alike and follow one another: " + why,
        hint="use compress.method = 'mir', 'cd' or 'fskd' for channels and heads, or 'practise' for whole blocks",
    )
