"""The gate of a deck, fitted without labels: each image to the member that stays nearest to the teacher.

A student that recovered on changed images keeps its classes under noise and blur, and loses some on clean images. Of
views of which a share is changed, each member's divergence from the teacher, which sees the clean image, is known. The
gate learns to pick the member with the least from the image's radial spectrum alone, by a multinomial logistic
regression in which a view counts as much as picking wrongly would cost there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from edgec.core.gate import Gate, radial_spectrum
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images, Samples
from edgec.learn.config import Robust
from edgec.learn.draws import balanced_chances
from edgec.learn.temperature import Run, view_count
from edgec.learn.views import student_view, view_of
from edgec.models.infer import to_tensor

__all__ = ["Looked", "fit_gate", "look_through"]

_BATCH = 64
_PENALTY = 1e-3
"""Of the squared weights, of standardised spectra."""
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Views, and what the members make of them.

    Attributes:
        spectra: Radial spectra of the images as the graph takes them.
        losses: Divergence of each member from the teacher, in nat: KL(teacher on the clean image, member on the view).
    """

    spectra: Float[np.ndarray, "n ring"]
    losses: Float[np.ndarray, "n member"]


def look_through(
    few: Samples,
    ood: Images,
    spec: InputSpec,
    *,
    teacher: Run,
    members: Sequence[Run],
    robust: Sequence[Robust],
    share: float,
    taken: Callable[[Tensor], np.ndarray],
    seed: int,
) -> Looked:
    """Shows views to all members, and the clean images to the teacher.

    Half of the images are few samples, every class alike, and half OOD images, where there are any. A share of each
    batch is changed in the way that one of the members recovered on, in turns.

    Args:
        few: The few samples.
        ood: Unlabelled images; may be empty.
        spec: What the nets take.
        teacher: Normalised images to logits.
        members: The students, likewise.
        robust: What the members saw in recovery.
        share: Of the views, those that are changed.
        taken: Normalised images to those that the graph takes.
        seed: Of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    ways = [view for each in robust if (view := view_of(each, share, spec)) is not None]
    spectra, losses = list[np.ndarray](), list[np.ndarray]()
    for number, batch in enumerate(_batches(few, ood, spec, generator)):
        seen = batch
        if ways:
            own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
            seen = student_view(ways[number % len(ways)], own)(batch)
        wanted = log_softmax(teacher(batch).astype(np.float64), axis=1)
        given = [log_softmax(member(seen).astype(np.float64), axis=1) for member in members]
        losses.append(np.stack([(np.exp(wanted) * (wanted - each)).sum(axis=1) for each in given], axis=1))
        spectra.append(radial_spectrum(taken(seen)))
    return Looked(spectra=np.concatenate(spectra), losses=np.concatenate(losses))


def _batches(few: Samples, ood: Images, spec: InputSpec, generator: torch.Generator) -> Iterator[Tensor]:
    """Normalised images, as many in all as a temperature is fitted to."""
    chances = torch.as_tensor(balanced_chances(few.labels))
    half = _BATCH // 2 if len(ood) else 0
    for _ in range(-(-view_count(spec, classes=len(few.classes)) // _BATCH)):
        drawn = torch.multinomial(chances, _BATCH - half, replacement=True, generator=generator)
        pixels = [few.pixels[drawn.numpy()]]
        if half:
            pixels.append(ood.pixels[torch.randint(len(ood), (half,), generator=generator).numpy()])
        yield to_tensor(np.concatenate(pixels), spec)


def fit_gate(looked: Looked) -> Gate:
    """The gate that costs least on these views, of which each counts as much as a wrong pick costs on average there."""
    mean, deviation = looked.spectra.mean(axis=0), looked.spectra.std(axis=0) + _LEAST_DEVIATION
    standard = (looked.spectra - mean) / deviation
    best = looked.losses.argmin(axis=1)
    members = looked.losses.shape[1]
    regret = (looked.losses.sum(axis=1) - members * looked.losses.min(axis=1)) / (members - 1)
    counted = regret / max(regret.mean(), np.finfo(float).tiny)
    right = np.eye(members)[best]

    def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:-members].reshape(members, -1), flat[-members:]
        scores = standard @ weights.T + bias
        surely = scores - logsumexp(scores, axis=1, keepdims=True)
        error = counted[:, None] * (np.exp(surely) - right) / len(standard)
        value = -(counted * surely[np.arange(len(best)), best]).mean() + _PENALTY * (weights**2).sum()
        slopes = error.T @ standard + 2 * _PENALTY * weights
        return float(value), np.concatenate([slopes.ravel(), error.sum(axis=0)])

    found = minimize(cost, np.zeros(members * (standard.shape[1] + 1)), jac=True, method="L-BFGS-B").x
    weights = found[:-members].reshape(members, -1) / deviation
    bias = found[-members:] - weights @ mean
    return Gate(weights=tuple(map(tuple, weights.tolist())), bias=tuple(bias.tolist()))
