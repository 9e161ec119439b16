"""Quantisation-aware training: the rounded net learns to do what it did in floating point, and the teacher does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from edgec.core.errors import ConfigError
from edgec.core.progress import Progress
from edgec.learn.batches import Pool, batches
from edgec.learn.mimic import Seen, mimic_loss
from edgec.learn.views import View, student_view
from edgec.quantize.config import TrainConfig
from edgec.quantize.network import Network

__all__ = ["train_"]

TINY = 1e-8
"""Least size of a parameter that its steps are relative to."""


def train_(
    network: Network,
    teacher: Callable[[Tensor], Tensor],
    pools: tuple[Pool, Pool | None],
    config: TrainConfig,
    *,
    device: torch.device,
    generator: torch.Generator,
    progress: Progress,
    groups: Int[Tensor, "class"] | None = None,
    view: View | None = None,
) -> None:
    """Trains weights, biases and, where asked for, step sizes.

    What each layer reads is to stay what it was before anything was rounded, relative to its mean square, and the
    logits are to be the teacher's: `mimic_loss` of recovery, with the same balanced draws and blends, so every class
    has its say. Rates are relative to the size of each parameter, under Adam: one rate serves every layer.

    Args:
        network: Started from its calibrated ranges; its parameters change.
        teacher: From images to logits.
        pools: Few samples and OOD images.
        config: How.
        device: Where.
        generator: Draws batches, blends and augmentations.
        progress: Shown per step.
        groups: LTKD's, from `class_groups`.
        view: What the rounded net sees of each image; None for what the teacher and the net as it was see.

    Raises:
        ConfigError: The learning rate is too high: a weight became NaN or infinite.
    """
    network.to(device)
    reference = copy.deepcopy(network)
    maps = _maps(network, pools[0].images[:2].to(device))
    learned = [*network.weights, *(network.steps if config.steps_learn else ())]
    own = [{"params": [p.requires_grad_(True)], "lr": config.learning_rate * _size(p)} for p in learned]
    optimiser = torch.optim.Adam(own)
    rates = [group["lr"] for group in own]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=config.steps, cycle_momentum=False)
    groups = None if groups is None else groups.to(device)
    drawn = batches(pools, config, steps=config.steps, shift=config.shift, flip=config.flip, generator=generator)
    look = student_view(view, generator)
    for images, share in progress.track(drawn, total=config.steps, what="training with rounding", unit="step"):
        images, seen, share = (part.to(device) for part in (images, look(images), share))
        with torch.no_grad():
            before = reference.run(images, only=(), wanted=maps)
            wanted = _seen(before, maps, teacher(images))
        after = network.run(seen, wanted=maps)
        loss = mimic_loss(_seen(after, maps, after[network.output]), wanted, share, config=config, groups=groups)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    for parameter in learned:
        parameter.requires_grad_(False)
        if not bool(torch.isfinite(parameter).all()):
            raise ConfigError(
                f"a weight became NaN or infinite: learning_rate = {config.learning_rate} is too high for this net",
                hint="lower quantize.training.learning_rate",
            )
    network.to("cpu")


def _maps(network: Network, images: Tensor) -> list[str]:
    """What the layers read, the last of them what the head reads; within attention images lie in other axes."""
    names = list(dict.fromkeys(layer.input for layer in network.layers))
    with torch.no_grad():
        found = network.run(images, wanted=names)
    return [name for name in names if found[name].shape[0] == len(images)]


def _size(parameter: Tensor) -> float:
    """Root mean square; logarithms of factors, which start at 0, are relative already."""
    size = parameter.detach().square().mean().sqrt().item()
    return size if size > TINY else 1.0


def _seen(found: dict[str, Tensor], maps: list[str], logits: Tensor) -> Seen:
    *between, features = (found[name] for name in maps)
    return Seen(features=features, logits=logits, between=between)
