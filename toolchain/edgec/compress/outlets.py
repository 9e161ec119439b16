"""Where a layer's output goes before anything bends it: through a batch norm, into a sum with another branch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgec.compress.layerwise import Reached, run_hooked

__all__ = ["Norm", "Outlet", "outlets", "read"]

Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True, kw_only=True)
class Outlet:
    """A layer and what takes its output as it is.

    Attributes:
        layer: Name of the layer.
        positions: How many times it gives its output channels for an image.
        norm: Name of the batch norm, with statistics and a scale of its own, that takes the output, if there is one.
        summed: Whether what comes out of these is added to another branch, as at the end of a residual block.
    """

    layer: str
    positions: int
    norm: str | None = None
    summed: bool = False

    @property
    def end(self) -> str:
        """Name of the last of these layers."""
        return self.norm or self.layer


def outlets(module: nn.Module, names: Collection[str], example: Tensor) -> list[Outlet]:
    """The outlets of the named layers, in the order in which they run; a layer that does not run has none."""
    found: dict[str, Outlet] = {}
    ends: dict[str, tuple[Tensor, Tensor]] = {}  # and its values, which an activation in place would change

    def listen(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name in names:
            positions = output[0].numel() // len(layer.get_parameter("weight"))
            found[name], ends[name] = Outlet(layer=name, positions=positions), (output, output.clone())
        elif isinstance(layer, Norm) and layer.affine and layer.track_running_stats:
            for key in [key for key, (end, _) in ends.items() if end is inputs[0]]:
                found[key], ends[key] = replace(found[key], norm=name), (output, output.clone())

    def look(term: Tensor, _: Tensor) -> None:
        for key, (end, values) in ends.items():
            if term is end and torch.equal(term, values):
                found[key] = replace(found[key], summed=True)

    leaves = [name for name, layer in module.named_modules() if not list(layer.children())]
    with _Sums(look):
        run_hooked(module, example, {name: partial(listen, name) for name in leaves})
    return list(found.values())


def read(module: nn.Module, outlet: Outlet, images: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out of the layer, and what is added to it, zeros where nothing is; the module is run no further."""
    made: dict[str, Tensor] = {}
    added: list[Tensor] = []

    def keep(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        made[name] = output
        if name == outlet.end and not outlet.summed:
            raise Reached

    def look(term: Tensor, other: Tensor) -> None:
        if term is made.get(outlet.end):
            added.append(other)
            raise Reached

    with _Sums(look):
        run_hooked(module, images, {name: partial(keep, name) for name in (outlet.layer, outlet.end)})
    output = made[outlet.layer]
    return output, added[0] if added else torch.zeros_like(output)


class _Sums(TorchFunctionMode):
    """While open, tells of both terms of every sum of two tensors of the same shape, before it is taken."""

    def __init__(self, look: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.look = look

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if getattr(function, "__name__", "") in {"add", "add_", "__add__", "__iadd__"}:
            one, other = args[:2]
            if isinstance(other, Tensor) and one.shape == other.shape:
                self.look(one, other)
                self.look(other, one)
        return function(*args, **(kwargs or {}))
