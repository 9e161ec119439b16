"""How far out-of-distribution images are from the few samples, as the teacher sees them: no label, no test image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.learn.inputs import Inputs
from edgec.models.infer import placed
from edgec.models.taps import common_inputs, find_tap, tapped

__all__ = ["domain_gap"]

MOST_IMAGES, MOST_PIXELS = 128, 2**19
"""At a time: the inputs of all layers are held."""
LEAST = 1e-6
"""Variances below this share of their layer's mean count as this."""


def domain_gap(teacher: nn.Module, near: Inputs, far: Inputs, *, fabric: Fabric) -> float:
    """How far images are from others, by what the teacher's layers read: KL(N_far || N_near) in nat.

    Each channel of each layer's input is taken for normal, with its mean and variance over images and positions; the
    divergence is the mean over the channels of a layer, then over layers.

    Args:
        teacher: In evaluation mode.
        near: Images of the classes.
        far: Other images.
        fabric: Device.
    """
    tap = find_tap(teacher, near[:2])
    layers = common_inputs(teacher, teacher, tap, near[:2])
    with placed(teacher, fabric.device) as module, tapped(module, tap, layers) as caught:
        wanted, got = (_moments(module, images, caught, fabric) for images in (near, far))
    divergences = []
    for (mean, variance), (other, spread) in zip(wanted, got, strict=True):
        floor = LEAST * variance.mean().clamp(min=LEAST)
        variance, spread = variance.clamp(min=floor), spread.clamp(min=floor)
        ratio = spread / variance
        divergences.append(0.5 * (ratio + (other - mean).square() / variance - 1 - ratio.log()).mean())
    return float(torch.stack(divergences).mean())


@torch.no_grad()
def _moments(module: nn.Module, images: Inputs, caught: list[Tensor], fabric: Fabric) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of every channel of all that is caught, over images and positions."""
    sums: list[Tensor] = []
    size = max(1, min(MOST_IMAGES, MOST_PIXELS // images[:1][0, 0].numel()))
    for batch in images.split(size):
        module(fabric.to_device(batch))
        share = len(batch) / len(images)
        maps = (_channels(part.double()) for part in caught)  # in double precision one at a time
        parts = [torch.stack([part.mean(1), part.square().mean(1)]) * share for part in maps]
        sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
    return [(first, second - first.square()) for first, second in sums]


def _channels(part: Tensor) -> Float[Tensor, "channel value"]:
    """Maps have their channels second (maps of transformers, which have them last, are read by rows), tokens last."""
    return part.movedim(1 if part.ndim == 4 else -1, 0).flatten(1)
