"""The recipe that the benchmarks' teachers are trained by: SGD with one cycle, cross-entropy with smoothed labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["trained"]


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
