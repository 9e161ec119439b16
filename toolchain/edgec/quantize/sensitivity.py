"""What rounding each part of a net costs each class, and the fewest to spare so that no class pays too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgec.core.progress import Progress
from edgec.learn.inputs import Inputs
from edgec.quantize.network import Network, Part

__all__ = [
    "PartCost",
    "changed_by_class",
    "divergence_by_class",
    "logits_of",
    "operators_of",
    "part_costs",
    "parts_to_spare",
]

BATCH = 64
"""Images at a time."""


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """What a part costs when it alone is rounded: the divergence of the logits, class by class, in nat."""

    part: Part
    divergence: Float[np.ndarray, "class"]

    @property
    def worst(self) -> float:
        """That of the class that suffers most."""
        return float(self.divergence.max())


def part_costs(
    parts: Sequence[Part],
    alone: Callable[[Part], Network],
    reference: Float[np.ndarray, "n class"],
    images: Inputs,
    *,
    progress: Progress,
) -> tuple[PartCost, ...]:
    """The cost of each part, in their order.

    Args:
        parts: Of the graph.
        alone: The net in which this part is to be rounded, and other layers have their weights in floating point.
        reference: Logits in floating point.
        images: Those of the logits; no label is asked.
        progress: Told about every part.
    """
    costs = []
    for part in progress.track(parts, total=len(parts), what="rounding part by part"):
        logits = logits_of(partial(alone(part).alone, part), images)
        costs.append(PartCost(part=part, divergence=divergence_by_class(reference, logits)))
    return tuple(costs)


def parts_to_spare(
    costs: Sequence[PartCost], changed: Callable[[tuple[str, ...]], Float[np.ndarray, "class"]], *, allowed: float
) -> tuple[Part, ...]:
    """The parts to keep in floating point, as few as a greedy search finds, in the order of the graph.

    Parts are spared from the costliest for its worst class on, until no class changes more than is allowed; then each
    that turns out not to be needed is given back, from the cheapest on. Where nothing helps, all are spared.

    Args:
        costs: Of every part that could be spared.
        changed: Share of each class's images that get another class when these operators stay in floating point; it
            may be NaN where a class has no images.
        allowed: Largest share.
    """

    def suffices(spared: Sequence[PartCost]) -> bool:
        return bool(np.nanmax(changed(operators_of([cost.part for cost in spared]))) <= allowed)

    spared: list[PartCost] = []
    for cost in sorted(costs, key=lambda cost: -cost.worst):
        if suffices(spared):
            break
        spared.append(cost)
    for cost in reversed(spared.copy()[:-1]):  # the last one was needed, or the search would have ended before it
        without = [other for other in spared if other is not cost]
        if suffices(without):
            spared = without
    return tuple(cost.part for cost in costs if any(cost is other for other in spared))


def operators_of(parts: Sequence[Part]) -> tuple[str, ...]:
    """The operators that stay in floating point where these parts do, each once."""
    return tuple(dict.fromkeys(name for part in parts for name in part.floats))


def logits_of(run: Callable[[Tensor], Tensor], images: Inputs) -> Float[np.ndarray, "n class"]:
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
