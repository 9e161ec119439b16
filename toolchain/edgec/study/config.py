"""Settings of training from scratch, apart from the code that needs torch."""

from __future__ import annotations

import math

from pydantic import Field

from edgec.core.frozen import Frozen

__all__ = ["Training"]


class Training(Frozen):
    """How a net is trained; SGD with momentum, one cycle.

    Attributes:
        steps: As many for every training set: a small one is to teach less because of what it lacks, not because it
            is over sooner.
        epochs: Counts epochs instead.
        batch_size: Images a step.
        learning_rate: Its peak.
        weight_decay: Of all weights.
    """

    steps: int = Field(default=200, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0002, ge=0, allow_inf_nan=False)

    def steps_over(self, images: int) -> int:
        """Optimiser steps on a training set of that many images."""
        return self.steps if self.epochs is None else self.epochs * math.ceil(images / self.batch_size)

    @property
    def length(self) -> str:
        """For people."""
        return f"{self.steps:,} steps" if self.epochs is None else f"{self.epochs:,} epochs"
