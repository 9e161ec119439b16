"""How far a student's logits are from the teacher's: KD, DKD, DIST, and LTKD for teachers that saw a long tail.

Each is a function of logits [batch, class] of both and of what each image counts for [batch], which sums to 1 (eq. 7 of
OE-FSMC); with shares of 1 / batch it is its paper's. All are multiplied by the square of the temperature T, with
p = softmax(z / T).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from edgec.learn.config import LogitLoss, MimicConfig

__all__ = ["class_groups", "dist", "dkd", "kd", "logit_loss", "ltkd", "standardised"]

Logits = Float[Tensor, "batch class"]
Share = Float[Tensor, "batch"]

LEAST = 1e-8
"""Least probability mass of a group: a group that the teacher never sees must not divide by zero."""
USUAL = {"dkd": (1.0, 8.0), "dist": (2.0, 2.0), "ltkd": (1.0, 1.0)}
"""What the two parts of each loss weigh where the config does not say: as their papers have it; LTKD's names none."""


def logit_loss(
    student: Logits, teacher: Logits, share: Share, config: MimicConfig, groups: Int[Tensor, "class"] | None = None
) -> Tensor:
    """The loss that the settings ask for, a scalar.

    Args:
        student: Its logits.
        teacher: The teacher's, for the same images.
        share: What each image counts for.
        config: Which loss, its temperature and weights.
        groups: LTKD's, from `class_groups`.
    """
    student, teacher = student.float(), teacher.float()
    if config.standardise_logits:
        student, teacher = standardised(student), standardised(teacher)
    return _bound(config, groups)(student, teacher, share, temperature=config.temperature)


def _bound(config: MimicConfig, groups: Int[Tensor, "class"] | None) -> Callable[..., Tensor]:
    """A loss with the weights of its two parts."""
    name = config.logit_loss
    if name == "kd":
        return kd
    first, second = config.loss_weights or USUAL[name]
    weights = (first, second)
    if name != "ltkd":
        return partial(_TWO_PARTS[name], weights=weights)
    if groups is None:
        raise TypeError("ltkd needs groups of classes")
    return partial(ltkd, weights=weights, groups=groups)


def kd(student: Logits, teacher: Logits, share: Share, *, temperature: float) -> Tensor:
    """KL(p^T || p^S) (Hinton et al. 2015)."""
    ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * (share * _divergence(theirs, ours)).sum()


def dkd(student: Logits, teacher: Logits, share: Share, *, temperature: float, weights: tuple[float, float]) -> Tensor:
    """α KL over (target, rest) + β KL over the other classes (Zhao et al. 2022, eq. 7).

    The target is the teacher's class: most images here have no label.
    """
    target = F.one_hot(teacher.argmax(1), teacher.shape[1]).bool()
    ours, theirs = (_by_group(logits / temperature, target) for logits in (student, teacher))
    (hit_ours, rest_ours), (hit_theirs, rest_theirs) = ours, theirs
    both = weights[0] * _divergence(hit_theirs, hit_ours) + weights[1] * _divergence(rest_theirs, rest_ours)
    return temperature**2 * (share * both).sum()


def _by_group(logits: Logits, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of (target, rest), and of the other classes among themselves."""
    logs = F.log_softmax(logits, dim=1)
    own = logs[target]
    others = logs[~target].view(len(logs), -1)
    return torch.stack([own, others.logsumexp(1)], dim=1), others.log_softmax(1)


def dist(student: Logits, teacher: Logits, share: Share, *, temperature: float, weights: tuple[float, float]) -> Tensor:
    """β (1 − Pearson over each image's classes) + γ (1 − Pearson over each class's images) (Huang et al. 2022, eq. 11).

    Images count by their shares in the second part too.
    """
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    even = torch.full_like(ours[0], 1 / ours.shape[1])
    between = (share * (1 - _correlation(ours.T, theirs.T, even))).sum()
    within = (1 - _correlation(ours, theirs, share)).mean()
    return temperature**2 * (weights[0] * between + weights[1] * within)


def _correlation(
    first: Float[Tensor, "row column"], second: Float[Tensor, "row column"], share: Float[Tensor, "row"]
) -> Float[Tensor, "column"]:
    """Pearson's, of each column, over rows that count by their shares."""
    first, second = (part - share @ part for part in (first, second))
    joint = share @ (first * second)
    return joint / ((share @ first**2) * (share @ second**2)).clamp(min=LEAST**2).sqrt()


def ltkd(
    student: Logits,
    teacher: Logits,
    share: Share,
    *,
    temperature: float,
    weights: tuple[float, float],
    groups: Int[Tensor, "class"],
) -> Tensor:
    """α KL(p̂_G^T || p_G^S) + β Σ_G KL(p̃_G^T || p̃_G^S) (arXiv 2506.18496).

    KD is KL over the groups' masses p_G plus Σ_G p_G^T KL within the groups, p̃_G. The teacher's bias lies in p_G^T: its
    masses are rebalanced, p̂_G = s_G p_G / Σ s_G p_G with s_G the batch's mean mass over its mass of G, and every group
    weighs the same. (The paper's first line of that identity has the full ratio in its first sum, where that of the
    masses belongs: a slip.) With as many groups as classes, the first part is KD from a teacher whose classes are
    rebalanced.

    Args:
        student: Its logits.
        teacher: The teacher's.
        share: What each image counts for.
        temperature: T.
        weights: α and β.
        groups: Of each class, the number of its group.
    """
    member = F.one_hot(groups).T.bool()
    (ours, inner_ours), (theirs, inner_theirs) = (
        _masses(F.log_softmax(logits / temperature, dim=1), member) for logits in (student, teacher)
    )
    masses = (share @ theirs.exp()).clamp(min=LEAST)
    rebalanced = (theirs + (masses.mean() / masses).log()).log_softmax(1)
    within = sum(_divergence(theirs_in, ours_in) for theirs_in, ours_in in zip(inner_theirs, inner_ours, strict=True))
    both = weights[0] * _divergence(rebalanced, ours) + weights[1] * within
    return temperature**2 * (share * both).sum()


def _masses(logs: Tensor, member: Tensor) -> tuple[Float[Tensor, "batch group"], list[Tensor]]:
    """Logarithms of the groups' masses, and of the probabilities within each group."""
    parts = [logs[:, group] for group in member]
    return torch.stack([part.logsumexp(1) for part in parts], dim=1), [part.log_softmax(1) for part in parts]


def _divergence(wanted: Float[Tensor, "batch k"], got: Float[Tensor, "batch k"]) -> Float[Tensor, "batch"]:
    """KL(wanted || got), from logarithms."""
    return F.kl_div(got, wanted, reduction="none", log_target=True).sum(1)


def standardised(logits: Logits) -> Logits:
    """Each image's logits with mean 0 and deviation 1: their pattern counts, not their scale (Sun et al. 2024)."""
    return (logits - logits.mean(1, keepdim=True)) / logits.std(1, correction=0, keepdim=True).clamp(min=LEAST)


_TWO_PARTS: Mapping[LogitLoss, Callable[..., Tensor]] = {"dkd": dkd, "dist": dist}


def class_groups(counts: Int[np.ndarray, "class"] | None, n: int) -> Int[Tensor, "class"] | None:
    """Head, medium and tail: classes by falling training count, in groups that are as equal in number as they can be.

    Args:
        counts: Training images of each class; None where the teacher saw all alike, which leaves nothing to group by.
        n: How many groups, from 2; as many as classes at most.
    """
    if counts is None:
        return None
    groups = np.empty(len(counts), dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    for number, part in enumerate(np.array_split(order, min(n, len(counts)))):
        groups[part] = number
    return torch.as_tensor(groups)
