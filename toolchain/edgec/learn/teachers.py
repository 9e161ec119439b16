"""Several teachers as one: what they say of each image, put together into one distribution.

After the multi-teacher distillation of HPM-KD, which learns an attention network. Here nothing about the weights is
learned: without labels, what such attention finds best is the teacher nearest to the student.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import assert_never

from edgec.models.config import Weighing
from edgec.models.infer import placed

__all__ = ["Teachers", "attention", "together"]

SHARPNESS = 5.0
"""ρ: a teacher that is sure weighs e^5 times one that knows nothing, where all else is equal."""

Several = Float[Tensor, "teacher batch class"]


def together(
    logits: Several, frequencies: Float[Tensor, "teacher class"], *, weighing: Weighing, temperature: float
) -> Float[Tensor, "batch class"]:
    """Logits of all teachers as those of one.

        z = T log Σ_k a_k softmax((z_k − log π_k) / T) + log π_0

    Each teacher's own class frequencies π_k are taken out first (logit adjustment, Menon et al. 2021) and those of the
    first, which is the one that is compressed, put back, as if all had seen classes as often as it did. Where all saw
    classes alike, the gradient of KD towards z is that of Σ_k a_k KL(p_k || p^S), the loss of HPM-KD.

    Args:
        logits: z_k; the first teacher is the one that is compressed.
        frequencies: π_k, each row summing to 1, none of them 0.
        weighing: a_k is 1 / K for the `mean`; else `attention`.
        temperature: T, that of the loss.
    """
    logs = frequencies.log()
    alike = logits.float() - logs[:, None]
    match weighing:
        case "mean":
            weights = torch.full_like(alike[..., 0], 1 / len(alike))
        case "attention":
            weights = attention(alike, frequencies)
        case _:
            assert_never(weighing)
    parts = F.log_softmax(alike / temperature, dim=2) + weights.log()[..., None]
    return temperature * parts.logsumexp(0) + logs[0]


def attention(logits: Several, frequencies: Float[Tensor, "teacher class"]) -> Float[Tensor, "teacher batch"]:
    """What each teacher weighs for each image, summing to 1 over teachers.

        a_k ∝ exp(ρ (A_k + C_k)) Π_c π_k(c)^m(c)

    with p_k = softmax(z_k), K teachers and c over C classes:

    - agreement: A_k = mean over j ≠ k of Σ_c min(p_k(c), p_j(c)). Of two teachers both agree alike, so that it decides
      from three on.
    - confidence: C_k = 1 − H(p_k) / log C, with H the entropy.
    - class prior: m = mean_k p_k is what the teachers together take the image for; the teacher that saw more of these
      classes weighs more.

    Args:
        logits: z_k, their class frequencies taken out; two teachers or more.
        frequencies: π_k, each row summing to 1, none of them 0.
    """
    logs = F.log_softmax(logits.float(), dim=2)
    given = logs.exp()
    count, classes = len(given), given.shape[2]
    overlaps = torch.minimum(given[:, None], given[None]).sum(3)
    agreement = (overlaps.sum(1) - 1) / (count - 1)  # each overlaps with itself by 1
    confidence = 1 + (given * logs).sum(2) / torch.tensor(classes).log()
    known = given.mean(0) @ frequencies.log().T
    return (SHARPNESS * (agreement + confidence) + known.T).softmax(0)


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Further teachers beside the one that is compressed.

    Attributes:
        further: Each from the images of that one to logits of its classes.
        frequencies: Share of each class in every teacher's training, that of the one that is compressed first.
        weighing: What each weighs.
    """

    further: Sequence[nn.Module]
    frequencies: Float[Tensor, "teacher class"]
    weighing: Weighing

    @contextmanager
    def placed(self, device: torch.device | str) -> Iterator[None]:
        """All of them in evaluation mode on a device; afterwards they are where they were."""
        with ExitStack() as stack:
            for module in self.further:
                stack.enter_context(placed(module, device))
            yield

    def joined(
        self, logits: Float[Tensor, "batch class"], images: Float[Tensor, "batch ..."], *, temperature: float
    ) -> Float[Tensor, "batch class"]:
        """What all say together, as `together` has it.

        Args:
            logits: Of the teacher that is compressed.
            images: What it was shown.
            temperature: Of the loss.
        """
        several = torch.stack([logits.float(), *(module(images).float() for module in self.further)])
        frequencies = self.frequencies.to(logits.device)
        return together(several, frequencies, weighing=self.weighing, temperature=temperature)
