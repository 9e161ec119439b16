"""What is worth keeping: channel importance in which every class has its say (OE-FSMC eq. 1, 5, 6), and its cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import assert_never

from edgec.compress.config import ClassWeights
from edgec.learn.labels import complementary_rates

__all__ = ["class_taylor", "class_weights", "divergence_costs", "importance"]

LABEL_DRAWS = 4
"""Labels drawn per image for Fisher information."""


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
    batches: Iterable[tuple[Float[Tensor, "batch channel height width"], Int[Tensor, "batch"]]],
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
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(classes)
    with _listening(module, layers) as caught:
        for images, labels in batches:
            slopes = _slopes(F.cross_entropy(module(images), labels, reduction="sum"), caught)
            member = F.one_hot(labels, classes).T.float()
            counts += member.sum(1).cpu()
            for name, output in caught.items():
                terms = (_maps(module, name, output) * _maps(module, name, slopes[name])).sum(2)
                sums[name] = sums.get(name, 0) + member @ terms.abs()
    divisor = counts.clamp(min=1)[:, None]
    return {name: total / divisor.to(total.device) for name, total in sums.items()}


def divergence_costs(
    module: nn.Module,
    layers: Sequence[str],
    batches: Iterable[tuple[Float[Tensor, "batch channel height width"], Float[Tensor, "batch"]]],
    *,
    generator: torch.Generator,
) -> Mapping[str, Float[Tensor, "channel"]]:
    """By how much the outputs would diverge from what they were if a channel gave its mean and nothing else.

    To second order that is 1/2 sum_x p(x) E_{y ~ f(x)} (sum over positions of (a - mean a) d log f_y(x) / da)^2, with
    Fisher information in the place of the Hessian (Theis et al. 2018). No label is asked, so none can be wrong.

    Args:
        module: In evaluation mode.
        layers: Names of the layers whose output channels are judged.
        batches: Images and what each counts for, p(x), summing to 1 over all batches; gone through twice.
        generator: Draws y.
    """
    with torch.no_grad(), _listening(module, layers) as caught:
        means: dict[str, Tensor] = {}
        for images, shares in batches:
            module(images)
            for name, output in caught.items():
                means[name] = means.get(name, 0) + shares @ _maps(module, name, output).mean(2)
    costs: dict[str, Tensor] = {}
    with _listening(module, layers) as caught:
        for images, shares in batches:
            log_odds = module(images).log_softmax(1)
            drawn = torch.multinomial(log_odds.detach().exp(), LABEL_DRAWS, replacement=True, generator=generator)
            for labels in drawn.unbind(1):
                slopes = _slopes(log_odds.gather(1, labels[:, None]).sum(), caught)
                for name, output in caught.items():
                    around = _maps(module, name, output) - means[name][:, None]
                    terms = (around * _maps(module, name, slopes[name])).sum(2)
                    costs[name] = costs.get(name, 0) + shares @ terms.square() / (2 * LABEL_DRAWS)
    return costs


@contextmanager
def _listening(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While open, each forward pass leaves the outputs of the named layers, which can be differentiated by."""
    caught: dict[str, Tensor] = {}

    def listen(name: str, _: nn.Module, __: object, output: Tensor) -> Tensor:
        caught[name] = output if output.requires_grad else output.detach().requires_grad_()
        return caught[name].clone()  # what comes next may work in place, as torchvision's ReLU6 does

    handles = [module.get_submodule(name).register_forward_hook(partial(listen, name)) for name in layers]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _maps(module: nn.Module, name: str, output: Tensor) -> Float[Tensor, "batch channel position"]:
    """A layer's output, or the gradient there, without history; linear layers have their channels last."""
    channel = -1 if isinstance(module.get_submodule(name), nn.Linear) else 1
    return output.detach().movedim(channel, 1).unsqueeze(-1).flatten(2)


def _slopes(value: Float[Tensor, ""], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of a value at each layer's output, and at nothing else; zeros where nothing flows back."""
    found = torch.autograd.grad(value, list(outputs.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(outputs, found, strict=True))
