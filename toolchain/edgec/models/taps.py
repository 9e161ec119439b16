"""Where a classifier's features are: its head, and the last feature map before global pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Tap", "common_inputs", "find_tap", "tapped"]


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

    Between the two there is no other layer with weights to learn but norms: a transformer's map of patches, which
    has as many channels, is none of its features.

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
    maps = [
        name
        for name, _, out in finished[_last_inner(finished, head) :]
        if out.ndim == 4 and out.shape[1] == head.in_features and out[0, 0].numel() > 1
    ]
    return Tap(head=head_name, features=maps[-1] if maps else None)


def _last_inner(finished: Sequence[tuple[str, nn.Module, Tensor]], head: nn.Module) -> int:
    """Position of the last convolution or linear layer but the head."""
    inner = [i for i, (_, m, _) in enumerate(finished) if isinstance(m, nn.Conv2d | nn.Linear) and m is not head]
    return inner[-1] if inner else 0


def common_inputs(student: nn.Module, teacher: nn.Module, tap: Tap, example: Tensor) -> tuple[str, ...]:
    """Names of the layers that take a map of the same shape in both nets: there the student can follow closely.

    Convolutions and linear layers count, but for the head and for those that take the image itself.
    """
    ours, theirs = (_input_shapes(module, tap, example) for module in (student, teacher))
    return tuple(name for name, shape in theirs.items() if ours.get(name) == shape)


def _input_shapes(module: nn.Module, tap: Tap, example: Tensor) -> dict[str, torch.Size]:
    shapes: dict[str, torch.Size] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0] is not example:
            shapes[name] = inputs[0].shape

    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and n != tap.head}
    handles = [layer.register_forward_pre_hook(partial(note, name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


@contextmanager
def tapped(module: nn.Module, tap: Tap, inputs_of: Sequence[str] = ()) -> Iterator[list[Tensor]]:
    """While open, each forward pass leaves a list: its features, then the inputs of the named layers, in order."""
    caught: list[Tensor] = [torch.empty(0)] * (1 + len(inputs_of))

    def keep_output(_: nn.Module, __: object, output: Tensor) -> None:
        caught[0] = output

    def keep_input(position: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught[position] = inputs[0]

    handles = [
        module.get_submodule(name).register_forward_pre_hook(partial(keep_input, position))
        for position, name in enumerate(inputs_of, start=1)
    ]
    if tap.features is not None:
        handles.append(module.get_submodule(tap.features).register_forward_hook(keep_output))
    else:
        handles.append(module.get_submodule(tap.head).register_forward_pre_hook(partial(keep_input, 0)))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
