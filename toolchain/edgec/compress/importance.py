"""What is worth keeping: channel importance in which every class has its say (OE-FSMC eq. 1, 5, 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import assert_never

from edgec.compress.config import ClassWeights
from edgec.compress.labels import complementary_rates

__all__ = ["class_taylor", "class_weights", "importance"]


def importance(taylor: Float[Tensor, "class channel"], weights: Float[np.ndarray, "class"]) -> Float[Tensor, "channel"]:
    """Eq. 5: s_k = sum over classes j of w_j s_kj."""
    return torch.as_tensor(weights, dtype=taylor.dtype, device=taylor.device) @ taylor


def class_weights(
    reading: ClassWeights, few: Int[np.ndarray, "class"], auxiliary: Int[np.ndarray, "class"]
) -> Float[np.ndarray, "class"]:
    """Eq. 6: w_j = p_j / sum of p, for one of four readings of p.

    The paper sets p to the class frequency, which favours the majority, while its text says that minorities
    weigh more; `mixed` reads p as the frequency in few and auxiliary images together.

    Args:
        reading: Which p.
        few: Samples per class.
        auxiliary: OOD images per assigned label; zeros where there are none.
    """
    match reading:
        case ClassWeights.FREQUENCY:
            raw = few.astype(float)
        case ClassWeights.MIXED:
            raw = (few + auxiliary).astype(float)
        case ClassWeights.INVERSE:
            raw = 1.0 / np.maximum(few, 1)
        case ClassWeights.COMPLEMENTARY:
            raw = complementary_rates(few)
        case _:
            assert_never(reading)
    return raw / raw.sum()


def class_taylor(
    module: nn.Module,
    layers: Sequence[str],
    batches: Sequence[tuple[Float[Tensor, "batch channel height width"], Int[Tensor, "batch"]]],
    *,
    classes: int,
) -> Mapping[str, Float[Tensor, "class channel"]]:
    """s_kj of eq. 5: the mean over the samples of class j of channel k's first-order Taylor term.

    The term of one sample is |sum over positions of activation times the loss's gradient there|: by how much
    the loss would change, to first order, if the channel were zero (Molchanov et al. 2017, per sample).

    Args:
        module: In evaluation mode, so that samples do not see each other.
        layers: Names of the layers whose output channels are judged.
        batches: Images and labels.
        classes: Number of classes; a class without a sample gets zeros.
    """
    caught: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(classes)

    def listen(name: str, _: nn.Module, __: object, output: Tensor) -> Tensor:
        caught[name] = output if output.requires_grad else output.detach().requires_grad_()
        caught[name].retain_grad()
        return caught[name].clone()  # what comes next may work in place, as torchvision's ReLU6 does

    handles = [module.get_submodule(name).register_forward_hook(partial(listen, name)) for name in layers]
    try:
        for images, labels in batches:
            F.cross_entropy(module(images), labels, reduction="sum").backward()
            member = F.one_hot(labels, classes).T.float()
            counts += member.sum(1).cpu()
            for name, output in caught.items():
                channel = -1 if isinstance(module.get_submodule(name), nn.Linear) else 1
                sums[name] = sums.get(name, 0) + member @ _terms(output, channel)
    finally:
        for handle in handles:
            handle.remove()
        module.zero_grad(set_to_none=True)
    divisor = counts.clamp(min=1)[:, None]
    return {name: total / divisor.to(total.device) for name, total in sums.items()}


def _terms(output: Float[Tensor, "batch ..."], channel: int) -> Float[Tensor, "batch channel"]:
    """The Taylor term of every sample and channel, after the backward pass."""
    gradient = torch.zeros_like(output) if output.grad is None else output.grad
    products = (output * gradient).detach().movedim(channel, 1)
    return products.reshape(*products.shape[:2], -1).sum(2).abs()
