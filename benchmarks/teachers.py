"""The recipe that the benchmarks' teachers are trained by: SGD with one cycle, cross-entropy with smoothed labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from edgec.learn.batches import augment
from edgec.models.infer import to_tensor
from edgec.models.load import build_module
from edgec.pipeline.config import BuildConfig

__all__ = ["train_on", "trained"]

BATCH, RATE = 128, 0.1
"""Of a teacher that is trained on a part of a config's images."""


def trained(
    net: nn.Module,
    labels: Tensor,
    batch_of: Callable[[Tensor], Tensor],
    *,
    steps: int,
    batch: int,
    rate: float,
    generator: torch.Generator,
) -> nn.Module:
    """The net itself after its last step, in evaluation mode.

    Args:
        net: Initialised.
        labels: int64 [n].
        batch_of: The augmented images at some positions, float32 [batch, channel, height, width].
        steps: Optimiser steps.
        batch: Images a step, drawn with replacement.
        rate: Peak of the learning rate.
        generator: Draws positions.
    """
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=generator)
        loss = F.cross_entropy(net(batch_of(chosen)), labels[chosen], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def train_on(config: BuildConfig, images: Path, weights: Path, *, steps: int) -> None:
    """Trains the architecture of a config on the images of an `.npz`, and keeps its weights."""
    with np.load(images) as file:
        pixels, labels = file["images"], torch.as_tensor(file["labels"].astype(np.int64))
        names = tuple(map(str, file["names"]))
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def batch_of(chosen: Tensor) -> Tensor:
        inputs = to_tensor(pixels[chosen], config.model.input)
        return augment(inputs, shift=0.125, flip=config.compress.flip, generator=generator)

    net = build_module(config.model, names)
    trained(net, labels, batch_of, steps=steps, batch=BATCH, rate=RATE, generator=generator)
    save_file(net.state_dict(), weights)
