"""Where a layer's output goes before anything bends it: through a batch norm, into a sum with another branch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgec.learn.layerwise import Reached, run_hooked

__all__ = ["Norm", "Outlet", "outlets", "read"]

Norm = nn.BatchNorm1d | nn.BatchNorm2d
SUM = "+"


@dataclass(frozen=True, kw_only=True)
class Outlet:
    """A layer and what takes its output as it is.

    Attributes:
        layer: Name of the layer.
        positions: How many times it gives its output channels for an image.
        norm: Name of the batch norm, with statistics and a scale of its own, that alone takes the output, if any.
        summed: Whether all that becomes of it then is a sum with another branch, as at the end of a residual block.
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
    layers = {name: layer for name, layer in module.named_modules() if not list(layer.children())}
    made: dict[str, _Made] = {}

    def heard(user: str, taken: tuple[Tensor, ...]) -> None:
        for one in made.values():
            if any(one.tensor is tensor for tensor in taken):
                one.take(user)

    def listen(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        is_norm = isinstance(layer, Norm) and layer.affine and layer.track_running_stats
        for one in made.values() if is_norm else ():
            if one.tensor is inputs[0] and one.users[-1:] == ["batch_norm"]:  # heard by its function's name
                one.users[-1] = name
        if is_norm or name in names:
            made[name] = _Made(tensor=output, version=_version(output))

    with _Watch(heard):
        run_hooked(module, example, {name: partial(listen, name) for name in layers})
    return [_outlet(name, layers[name], made) for name in made if name in names]


@dataclass(kw_only=True)
class _Made:
    """What came out of a layer, and who took it."""

    tensor: Tensor
    version: int
    users: list[str] = field(default_factory=list)

    def take(self, user: str) -> None:
        changed = _version(self.tensor) > self.version
        if not (changed and self.users[-1:] == [SUM]):  # after a sum in place it is another value
            self.users.append("an activation in place" if changed else user)


def _version(tensor: Tensor) -> int:
    """How often the values were changed in place."""
    return tensor._version  # noqa: SLF001  the one way to ask


def _outlet(name: str, layer: nn.Module, made: Mapping[str, _Made]) -> Outlet:
    users = made[name].users
    norm = users[0] if len(users) == 1 and users[0] in made else None
    positions = made[name].tensor[0].numel() // len(layer.get_parameter("weight"))
    return Outlet(layer=name, positions=positions, norm=norm, summed=made[norm or name].users == [SUM])


def read(module: nn.Module, outlet: Outlet, images: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out of the layer, and what is added to it, zeros where nothing is; the module is run no further."""
    made: dict[str, Tensor] = {}
    added: list[Tensor] = []

    def keep(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        made[name] = output
        if name == outlet.end and not outlet.summed:
            raise Reached

    def heard(user: str, taken: tuple[Tensor, ...]) -> None:
        end = made.get(outlet.end)
        if user == SUM and any(end is term for term in taken):
            added.extend(term for term in taken if end is not term)
            raise Reached

    with _Watch(heard):
        run_hooked(module, images, {name: partial(keep, name) for name in (outlet.layer, outlet.end)})
    output = made[outlet.layer]
    return output, added[0] if added else torch.zeros_like(output)


class _Watch(TorchFunctionMode):
    """While open, hears of the tensors that a function takes: of two that are summed before, of others behind it."""

    def __init__(self, heard: Callable[[str, tuple[Tensor, ...]], None]) -> None:
        super().__init__()
        self.heard = heard

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        given = [one for arg in (*args, *kwargs.values()) for one in (arg if isinstance(arg, list | tuple) else [arg])]
        tensors = tuple(one for one in given if isinstance(one, Tensor))
        if name in {"add", "add_", "__add__", "__iadd__"} and len({one.shape for one in tensors}) < len(tensors) == 2:
            self.heard(SUM, tensors)
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            self.heard(name, tuple(one for one in tensors if one is not result))  # dropout passes its input on
        return result
