"""A pruned module from its architecture and its weights: layers take the shapes of the tensors they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["rebuild_"]


def rebuild_(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Gives every layer the shape and the values of its tensors in `state`.

    Works for layers whose size is told by the shape of their parameters: convolutions, linear and norm layers.

    Raises:
        UnsupportedError: A tensor changed its shape in a layer of another type.
    """
    from torch import nn

    for name, layer in module.named_modules():
        own = {key: state[f"{name}.{key}" if name else key] for key in _own_tensors(layer)}
        if all(tensor.shape == getattr(layer, key).shape for key, tensor in own.items()):
            continue
        weight = own["weight"]
        if isinstance(layer, nn.modules.conv._ConvNd):  # noqa: SLF001  the common base has no public name
            depthwise = layer.groups > 1 and layer.groups == layer.in_channels
            layer.groups = weight.shape[0] if depthwise else layer.groups
            layer.out_channels, layer.in_channels = weight.shape[0], weight.shape[1] * layer.groups
        elif isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = weight.shape
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  likewise
            layer.num_features = weight.shape[0]
        elif isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = tuple(weight.shape)
        else:
            raise UnsupportedError(f"layer '{name}': cannot rebuild a resized {type(layer).__name__}")
        for key, tensor in own.items():
            _resize_(layer, key, tensor)
    module.load_state_dict(state)


def _own_tensors(layer: nn.Module) -> list[str]:
    return [key for key in layer.state_dict() if "." not in key]


def _resize_(layer: nn.Module, key: str, tensor: Tensor) -> None:
    from torch import nn

    if isinstance(getattr(layer, key), nn.Parameter):
        setattr(layer, key, nn.Parameter(tensor.clone()))
    else:
        layer.register_buffer(key, tensor.clone())
