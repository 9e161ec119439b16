"""Learngenes: a transformer's layers as polynomials of their position (Feng et al., NeurIPS 2024).

The weights of layer l are theta_l = sum_n c_n(l) G_n, with n from 0 and G_n the components, the learngenes. Matrices,
biases and norms alike are such sums. A net of another depth evaluates the polynomials at its own positions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgec.compress.config import Basis, LearngeneConfig
from edgec.compress.sequence import layers_of_depth

__all__ = ["Learngenes", "coefficients", "fit"]


def coefficients(depth: int, components: int, basis: Basis) -> Float[Tensor, "depth component"]:
    """c_n(l) of every layer, in double precision.

    `chebyshev`: T_n at Chebyshev's nodes cos(pi (l - 1/2) / depth), l from 1. There its columns are orthogonal (it is
    the cosine transform over the layers); at equidistant positions it is nearly singular where there are many.
    `powers`: the n-th power of a position from -1 to 1, equidistant; of a single layer the middle. From 0 to 1 they are
    nearer to singular. Counted from 1, as in the paper, all of them may be zero at once; ours begin with the constant.
    """
    orders = torch.arange(components, dtype=torch.float64)
    if basis == "chebyshev":
        angles = torch.pi * (torch.arange(depth, dtype=torch.float64) + 0.5) / depth
        return torch.cos(angles[:, None] * orders)
    positions = torch.linspace(-1, 1, depth, dtype=torch.float64) if depth > 1 else torch.zeros(1, dtype=torch.float64)
    return positions[:, None] ** orders


def fit(layers: Sequence[Mapping[str, Tensor]], components: int, basis: Basis) -> tuple[dict[str, Tensor], float]:
    """The components that come nearest to layers, by least squares: exactly, where there are as many as layers.

    Args:
        layers: Parameters of each, by name.
        components: At most as many as layers.
        basis: Of the coefficients.

    Returns:
        Components [component, ...] of every parameter by its name, and the share of the layers' sum of squares that
        they miss.
    """
    matrix = coefficients(len(layers), components, basis)
    found, missed, whole = dict[str, Tensor](), 0.0, 0.0
    for name in layers[0]:
        wanted = torch.stack([layer[name].detach().double().flatten() for layer in layers])
        solved = torch.linalg.lstsq(matrix, wanted).solution
        found[name] = solved.reshape(components, *layers[0][name].shape).to(layers[0][name].dtype)
        missed += float((matrix @ solved - wanted).square().sum())
        whole += float(wanted.square().sum())
    return found, missed / whole if whole else 0.0


@dataclass(frozen=True, kw_only=True)
class Learngenes:
    """A decomposed transformer.

    Attributes:
        module: What is around the layers, which nets of every depth share: embeddings, the last norm, the head.
        layers: Names of its layers.
        components: Of every parameter of a layer, by its name in the layer: [component, ...].
        basis: Of the coefficients.
        missed: Share of the layers' sum of squares that the fit missed.
    """

    module: nn.Module
    layers: tuple[str, ...]
    components: Mapping[str, nn.Parameter]
    basis: Basis
    missed: float

    @classmethod
    def of(cls, module: nn.Module, layers: tuple[str, ...], config: LearngeneConfig) -> Learngenes:
        """Those of a net, in closed form."""
        own = [dict(module.get_submodule(name).named_parameters()) for name in layers]
        found, missed = fit(own, min(config.components, len(layers)), config.basis)
        components = {name: nn.Parameter(tensor) for name, tensor in found.items()}
        kept = copy.deepcopy(module)
        return cls(module=kept, layers=layers, components=components, basis=config.basis, missed=missed)

    @property
    def count(self) -> int:
        """How many components each parameter has."""
        return len(next(iter(self.components.values())))

    def recomposed(self, depth: int) -> nn.Module:
        """A net of that depth, of tensors of its own.

        Its layers are in the places of layers that are spread evenly, so that recovery compares maps of like depth;
        `nn.Identity` is in the others.
        """
        net = copy.deepcopy(self.module)
        for row, name in self._thin_(net, depth):
            layer = net.get_submodule(name)
            with torch.no_grad():
                for key, parameter in layer.named_parameters():
                    parameter.copy_(_summed(row, self.components[key]))
        return net

    def learning(self, depths: Sequence[int]) -> tuple[nn.Module, ...]:
        """Nets of these depths that share all their parameters: what one learns the others know."""
        return tuple(self._learning(depth) for depth in depths)

    def learned(self, net: nn.Module) -> Learngenes:
        """Those of a net that learned, one of `learning` or a copy."""
        module = copy.deepcopy(self.module)
        state = net.state_dict()
        module.load_state_dict({name: state.get(name, tensor) for name, tensor in module.state_dict().items()})
        one = next(name for name in self.layers if not isinstance(net.get_submodule(name), nn.Identity))
        components = {key: nn.Parameter(state[_place_of(f"{one}.{key}")].clone()) for key in self.components}
        return Learngenes(
            module=module, layers=self.layers, components=components, basis=self.basis, missed=self.missed
        )

    def _learning(self, depth: int) -> nn.Module:
        net = copy.deepcopy(self.module, {id(parameter): parameter for parameter in self.module.parameters()})
        for row, name in self._thin_(net, depth):
            layer = net.get_submodule(name)
            for key, components in self.components.items():
                place, _, leaf = key.rpartition(".")
                owner = layer.get_submodule(place)
                parametrize.register_parametrization(owner, leaf, _Sum(row), unsafe=True)  # of another shape
                owner.get_submodule(f"parametrizations.{leaf}").original = components
        return net

    def _thin_(self, net: nn.Module, depth: int) -> list[tuple[Float[Tensor, "component"], str]]:
        """Takes out the layers that have no place in a net of that depth; the others, with their coefficients."""
        kept = layers_of_depth(self.layers, depth)
        for name in self.layers:
            if name not in kept:
                net.set_submodule(name, nn.Identity())
        return list(zip(coefficients(depth, self.count, self.basis).float(), kept, strict=True))


class _Sum(nn.Module):
    """The weights of one layer."""

    row: Tensor

    def __init__(self, row: Float[Tensor, "component"]) -> None:
        super().__init__()
        self.register_buffer("row", row, persistent=False)

    def forward(self, components: Float[Tensor, "component ..."]) -> Float[Tensor, "..."]:
        return _summed(self.row, components)


def _summed(row: Float[Tensor, "component"], components: Float[Tensor, "component ..."]) -> Float[Tensor, "..."]:
    """As products and a sum: a matrix product would be in half precision where recovery is."""
    return (row.view(-1, *[1] * (components.ndim - 1)) * components).sum(0)


def _place_of(name: str) -> str:
    """Where a parametrised tensor is in the state."""
    place, _, leaf = name.rpartition(".")
    return f"{place}.parametrizations.{leaf}.original"
