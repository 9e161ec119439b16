"""What a student minimises: the labels' loss and one of the teacher's logits, each with or without the frequencies."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgec.core.classifier import Classifier, Step
from edgec.learn.config import MimicConfig
from edgec.learn.losses import class_groups, logit_loss
from edgec.learn.prior import logit_shift
from edgec.models.taps import find_tap
from edgec.study.long_tail.grid import ALONE, Cell
from edgec.study.training import Objective

__all__ = ["adjusted_teacher", "objective_of"]

GROUPS = 3
"""Of LTKD: head, medium and tail."""


def objective_of(cell: Cell, counts: Int[np.ndarray, "class"], *, temperature: float) -> Objective:
    """The loss of a cell: CE(s − shift, y) + L(s, z^T), with shift = −log π where labels are adjusted, else 0.

    Both parts weigh 1; `-alone` leaves the labels out. The teacher that is adjusted is given so.

    Args:
        cell: Which losses.
        counts: Training images of each class.
        temperature: T of the logits' loss.
    """
    shift = torch.as_tensor(logit_shift(counts, strength=1.0 if cell.adjusts("labels") else 0.0)).float()
    name, labelled = cell.distillation, not cell.loss.endswith(ALONE)
    config = MimicConfig.model_validate({"logit_loss": name or "kd", "logit_weight": 1.0, "temperature": temperature})
    groups = class_groups(counts, GROUPS)

    def objective(
        logits: Float[Tensor, "batch class"], wanted: Float[Tensor, "batch class"] | None, labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        device, loss = logits.device, logits.new_zeros(())
        if labelled:
            loss = F.cross_entropy(logits.float() - shift.to(device), labels)
        if name is None or wanted is None:
            return loss
        share = torch.full((len(labels),), 1 / len(labels), device=device)
        return loss + logit_loss(logits, wanted, share, config, None if groups is None else groups.to(device))

    return objective


def adjusted_teacher(net: Classifier, counts: Int[np.ndarray, "class"]) -> Classifier:
    """The net with the class frequencies taken out of its logits, by the bias of its head (Menon et al. 2021).

    Raises:
        UnsupportedError: No linear layer gives the logits.
    """
    module = copy.deepcopy(net.module)
    head = module.get_submodule(find_tap(module, torch.zeros(2, *net.input.shape)).head)
    shift = torch.as_tensor(logit_shift(counts, strength=1.0)).float()
    bias = head.bias if isinstance(head.bias, Tensor) else torch.zeros_like(shift)
    head.bias = nn.Parameter(bias.detach() + shift)
    return net.after(module, Step(method="adjust"))
