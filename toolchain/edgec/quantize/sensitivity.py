"""What rounding each layer costs each class, and the fewest layers to spare so that no class pays too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgec.core.progress import Progress
from edgec.quantize.network import Layer, Network

__all__ = ["LayerCost", "changed_by_class", "divergence_by_class", "layer_costs", "layers_to_spare", "logits_of"]

BATCH = 64
"""Images at a time."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What a layer costs when it alone is rounded: the divergence of the logits, class by class, in nat."""

    layer: Layer
    divergence: Float[np.ndarray, "class"]

    @property
    def worst(self) -> float:
        """That of the class that suffers most."""
        return float(self.divergence.max())


def layer_costs(
    layers: Sequence[Layer],
    alone: Callable[[Layer], Network],
    reference: Float[np.ndarray, "n class"],
    images: Tensor,
    *,
    progress: Progress,
) -> tuple[LayerCost, ...]:
    """The cost of each layer, in their order.

    Args:
        layers: Of the graph.
        alone: The net in which this layer is to be rounded, and the others have their weights in floating point.
        reference: Logits in floating point.
        images: float32 [n, channel, height, width], those of the logits; no label is asked.
        progress: Told about every layer.
    """
    costs = []
    for layer in progress.track(layers, total=len(layers), what="rounding layer by layer"):
        network = alone(layer)
        only = (layer.name,)
        logits = logits_of(lambda batch, net=network, only=only: net.run(batch, only=only)[net.output], images)
        costs.append(LayerCost(layer=layer, divergence=divergence_by_class(reference, logits)))
    return tuple(costs)


def layers_to_spare(
    costs: Sequence[LayerCost], changed: Callable[[tuple[str, ...]], Float[np.ndarray, "class"]], *, allowed: float
) -> tuple[str, ...]:
    """The layers to keep in floating point, as few as a greedy search finds, in the order of the graph.

    Layers are spared from the costliest for its worst class on, until no class changes more than is allowed; then each
    that turns out not to be needed is given back, from the cheapest on. Where nothing helps, all are spared.

    Args:
        costs: Of every layer that could be spared.
        changed: Share of each class's images that get another class when these layers are spared; it may be NaN where
            a class has no images.
        allowed: Largest share.
    """

    def suffices(spared: list[str]) -> bool:
        return bool(np.nanmax(changed(tuple(spared))) <= allowed)

    spared: list[str] = []
    for cost in sorted(costs, key=lambda cost: -cost.worst):
        if suffices(spared):
            break
        spared.append(cost.layer.name)
    for name in reversed(spared.copy()[:-1]):  # the last one was needed, or the search would have ended before it
        without = [other for other in spared if other != name]
        if suffices(without):
            spared = without
    return tuple(cost.layer.name for cost in costs if cost.layer.name in spared)


def logits_of(run: Callable[[Tensor], Tensor], images: Tensor) -> Float[np.ndarray, "n class"]:
    """What a net says of images, batch by batch."""
    with torch.no_grad():
        return torch.cat([run(batch).float().cpu() for batch in images.split(BATCH)]).double().numpy()


def divergence_by_class(
    reference: Float[np.ndarray, "n class"], logits: Float[np.ndarray, "n class"]
) -> Float[np.ndarray, "class"]:
    """KL(reference || logits) in nat, averaged for class c over the images with weights p_c(x) of the reference.

    So every class has its figure, however few images are most likely of it, and no label is needed.
    """
    wanted, got = (torch.from_numpy(rows).log_softmax(1).numpy() for rows in (reference, logits))
    likely = np.exp(wanted)
    divergence = np.maximum((likely * (wanted - got)).sum(1), 0)  # a sum of what cancels may end below it
    return likely.T @ divergence / np.maximum(likely.sum(0), np.finfo(np.float64).tiny)


def changed_by_class(
    reference: Float[np.ndarray, "n class"], logits: Float[np.ndarray, "n class"]
) -> Float[np.ndarray, "class"]:
    """The share of the images that the reference puts into a class and the other into another; NaN without images."""
    of = reference.argmax(1)
    moved = np.bincount(of, weights=logits.argmax(1) != of, minlength=reference.shape[1])
    count = np.bincount(of, minlength=reference.shape[1])
    return np.divide(moved, count, out=np.full(len(count), np.nan), where=count > 0)
