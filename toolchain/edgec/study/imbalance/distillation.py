"""What a quantised net learns that is taught by the uncompressed one: knowledge distillation (Hinton et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from edgec.learn.losses import kd

__all__ = ["distilled"]

FROM_TEACHER = 0.7
"""Weight of the distillation loss in the study of docs/methods.md §2; labels have the rest. The temperature is 1."""


def distilled(
    logits: Float[Tensor, "batch class"], wanted: Float[Tensor, "batch class"] | None, labels: Int[Tensor, "batch"]
) -> Float[Tensor, ""]:
    """Divergence from the teacher's answers, and cross-entropy with the labels; the latter alone without a teacher."""
    hard = F.cross_entropy(logits, labels)
    if wanted is None:
        return hard
    share = torch.full((len(labels),), 1 / len(labels), device=logits.device)
    return FROM_TEACHER * kd(logits.float(), wanted.float(), share, temperature=1.0) + (1 - FROM_TEACHER) * hard
