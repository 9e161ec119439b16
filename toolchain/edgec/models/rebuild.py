"""A compressed module from its architecture and its weights: layers take the shapes of the tensors they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["rebuild_"]


def rebuild_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives every layer the shape and the values of its tensors in `state`.

    Works for layers whose size is told by the shape of their parameters: convolutions that lost channels or whole
    groups, linear and norm layers, attention that lost heads. What has no tensor left in `state` was dropped:
    `nn.Identity` takes its place.

    Raises:
        UnsupportedError: A tensor changed its shape in a layer of another type.
    """
    import torch
    from torch import nn

    from edgec.models.attention import FewerHeads, can_lose_heads

    for name in list(_dropped(module, state)):
        module.set_submodule(name, nn.Identity())
    for name, layer in list(module.named_modules()):
        own = {key: state[f"{name}.{key}" if name else key] for key in _own_tensors(layer)}
        if all(tensor.shape == getattr(layer, key).shape for key, tensor in own.items()):
            continue
        if can_lose_heads(layer):
            module.set_submodule(name, FewerHeads(layer, torch.arange(len(own["in_proj_weight"]) // 3)))
            continue
        _describe_(layer, own, name)
        for key, tensor in own.items():
            _resize_(layer, key, tensor)
    module.load_state_dict(state)


def _dropped(module: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> Iterator[str]:
    """Names of the outermost modules all of whose tensors are gone."""
    for name, child in module.named_children():
        tensors = child.state_dict(prefix=f"{prefix}{name}.")
        if tensors and state.keys().isdisjoint(tensors):
            yield f"{prefix}{name}"
        else:
            yield from _dropped(child, state, f"{prefix}{name}.")


def _own_tensors(layer: nn.Module) -> list[str]:
    return [key for key in layer.state_dict() if "." not in key]


def _describe_(layer: nn.Module, own: Mapping[str, Tensor], name: str) -> None:
    """What a layer says about its own size, brought in line with its tensors."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd):  # noqa: SLF001  the common base has no public name
        outs, ins = own["weight"].shape[:2]
        group_width = layer.out_channels // layer.groups  # groups go whole, depthwise ones of width 1 among them
        layer.groups = outs // group_width if layer.groups > 1 else 1
        layer.out_channels, layer.in_channels = outs, ins * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = own["weight"].shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  torch has no public base class of batch norms
        layer.num_features = len(own["weight"])
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(own["weight"].shape)
    else:
        raise UnsupportedError(f"layer '{name}': cannot rebuild a resized {type(layer).__name__}")


def _resize_(layer: nn.Module, key: str, tensor: Tensor) -> None:
    from torch import nn

    if isinstance(getattr(layer, key), nn.Parameter):
        setattr(layer, key, nn.Parameter(tensor.clone()))
    else:
        layer.register_buffer(key, tensor.clone())
