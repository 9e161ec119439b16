"""What a student is shown: a batch a step, drawn class-balanced, shifted, mirrored and blended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import assert_never

from edgec.learn.config import MimicConfig, Mix
from edgec.learn.inputs import Inputs

__all__ = ["Pool", "augment", "batches", "mixed"]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Images to draw from, and each one's chance, summing to 1."""

    images: Inputs
    chances: Float[Tensor, "n"]


def batches(
    pools: tuple[Pool, Pool | None],
    config: MimicConfig,
    *,
    steps: int,
    shift: float,
    flip: bool,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch a step: images [batch, ...] and what each counts for [batch]."""
    few, ood = pools
    size = config.few_per_step + config.ood_per_step
    for step in range(steps):
        left = _ood_left(config, step, steps=steps) if ood else 0.0
        n = round(left * config.ood_per_step)
        weight = left * (1 - config.joint) if n else 0.0
        parts = [_draw(few, size - n, generator)]
        shares = [torch.full((size - n,), (1 - weight) / (size - n))]
        if ood is not None and n:
            parts.append(_draw(ood, n, generator))
            shares.append(torch.full((n,), weight / n))
        images = augment(torch.cat(parts), shift=shift, flip=flip, generator=generator)
        yield _blended(images, [len(part) for part in parts], config.mix, generator), torch.cat(shares)


def _ood_left(config: MimicConfig, step: int, *, steps: int) -> float:
    """How much of the OOD images' part is left in a step, from 1 to 0."""
    return 1 - step / max(1, steps - 1) if config.ood_share == "falls" else 1.0


def _blended(images: Tensor, sizes: list[int], mix: Mix, generator: torch.Generator) -> Tensor:
    match mix:
        case "across":
            return mixed(images, generator)
        case "within":
            return torch.cat([mixed(part, generator) for part in images.split(sizes)])
        case "off":
            return images
        case _:
            assert_never(mix)


def _draw(pool: Pool, n: int, generator: torch.Generator) -> Tensor:
    return pool.images[torch.multinomial(pool.chances, n, replacement=True, generator=generator)]


def augment(
    images: Float[Tensor, "batch channel height width"], *, shift: float, flip: bool, generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Each image moved by up to a share of its size, the gap filled with its edge's reflection, and maybe mirrored."""
    n, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    pad = int(shift * min(height, width))
    if pad == 0:
        return images
    padded = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    tops, lefts = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    rows = (tops[:, None] + torch.arange(height))[:, None, :, None]
    columns = (lefts[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(images.shape[1])[:, None, None], rows, columns]


def mixed(
    images: Float[Tensor, "batch channel height width"], generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Each image blended with another of the batch, by a share drawn uniformly from [0.5, 1] for itself."""
    own = 0.5 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return own * images + (1 - own) * images[torch.randperm(len(images), generator=generator)]
