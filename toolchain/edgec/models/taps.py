"""Where a classifier's features are: its head, and the last feature map before global pooling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Tap", "find_tap", "tapped"]


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Names of the modules to listen to.

    Attributes:
        head: The linear layer that gives the logits.
        features: The module whose output is the last feature map [batch, channel, height, width] before global
            pooling; None where there is no such map: then the head's input serves.
    """

    head: str
    features: str | None


def find_tap(module: nn.Module, example: Tensor) -> Tap:
    """Runs one example and looks for the last linear layer and the last map with as many channels as it takes.

    Raises:
        UnsupportedError: No linear layer gives the logits.
    """
    finished: list[tuple[str, nn.Module, Tensor]] = []
    names = {layer: name for name, layer in module.named_modules() if name}

    def listen(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            finished.append((names[layer], layer, output))

    handles = [layer.register_forward_hook(listen) for layer in names]
    try:
        with torch.no_grad():
            logits = module(example)
    finally:
        for handle in handles:
            handle.remove()
    heads = [(n, m) for n, m, out in finished if isinstance(m, nn.Linear) and out.shape == logits.shape]
    if not heads:
        raise UnsupportedError(
            "the model has no linear layer that gives its logits, so its features cannot be found",
            hint="use compress.method = 'none' to quantise it alone",
        )
    head_name, head = heads[-1]
    maps = [n for n, _, out in finished if out.ndim == 4 and out.shape[1] == head.in_features and out[0, 0].numel() > 1]
    return Tap(head=head_name, features=maps[-1] if maps else None)


@contextmanager
def tapped(module: nn.Module, tap: Tap) -> Iterator[list[Tensor]]:
    """While open, each forward pass leaves its features as the one element of the list."""
    caught: list[Tensor] = []

    def keep_output(_: nn.Module, __: object, output: Tensor) -> None:
        caught[:] = [output]

    def keep_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught[:] = [inputs[0]]

    if tap.features is not None:
        handle = module.get_submodule(tap.features).register_forward_hook(keep_output)
    else:
        handle = module.get_submodule(tap.head).register_forward_pre_hook(keep_input)
    try:
        yield caught
    finally:
        handle.remove()
