"""How far a student is from its teacher: features, maps on the way to them, and logits (OE-FSMC eq. 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from edgec.learn.config import Error, MimicConfig
from edgec.learn.losses import logit_loss

__all__ = ["Seen", "mimic_loss"]

TINY = 1e-12
"""Keeps the error of a teacher with silent features finite."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a net shows of itself for a batch.

    Attributes:
        features: Before global pooling, [batch, ...].
        logits: [batch, class].
        between: Maps on the way, each [batch, ...], that student and teacher have in the same shape.
    """

    features: Tensor
    logits: Float[Tensor, "batch class"]
    between: Sequence[Tensor] = ()


def mimic_loss(
    student: Seen,
    teacher: Seen,
    share: Float[Tensor, "batch"],
    *,
    config: MimicConfig,
    groups: Int[Tensor, "class"] | None = None,
) -> Tensor:
    """Eq. 7 over features, maps between and logits: the sum over images of `share` times their error.

    Where `config.error` is `relative`, squared errors are divided by the mean square of the teacher's map over the
    batch: then one learning rate and one weight of each part serve every net, whatever the scale of its features.
    MiR has them bare (`squared`).

    Args:
        student: What it shows.
        teacher: What the teacher shows, for the same batch.
        share: What each image counts for, summing to 1 over the batch: lambda over the few samples, 1 - lambda
            over the OOD images.
        config: Weights, and what compares the logits.
        groups: LTKD's, from `class_groups`.

    Returns:
        The loss, a scalar.
    """
    error_of = _ERRORS[config.error]
    error = error_of(student.features, teacher.features)
    if teacher.between:
        errors = [error_of(*pair) for pair in zip(student.between, teacher.between, strict=True)]
        error = error + config.between_weight * torch.stack(errors).mean(0)
    loss = (share * error).sum()
    if not config.logit_weight:
        return loss
    return loss + config.logit_weight * logit_loss(student.logits, teacher.logits, share, config, groups)


def _relative_error(got: Float[Tensor, "batch ..."], wanted: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    return _squared_error(got, wanted) / wanted.square().mean().float().clamp(min=TINY)


def _squared_error(got: Float[Tensor, "batch ..."], wanted: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    return F.mse_loss(got, wanted, reduction="none").sum(tuple(range(1, got.ndim))).float() / got[0].numel()


_ERRORS: Mapping[Error, Callable[[Tensor, Tensor], Tensor]] = {"relative": _relative_error, "squared": _squared_error}
