"""Settings of learning from few images, apart from the code that needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, field_validator, model_validator
from typing_extensions import Self

from edgec.core.frozen import Frozen

__all__ = [
    "BUDGETS",
    "OPERATIONS",
    "Budget",
    "DeckConfig",
    "DistillConfig",
    "Error",
    "LogitLoss",
    "MimicConfig",
    "Mix",
    "OodShare",
    "Operation",
    "Robust",
    "Schedule",
]

Schedule = Literal["one-cycle", "steps"]
Error = Literal["relative", "squared"]
Mix = Literal["across", "within", "off"]
OodShare = Literal["constant", "falls"]
LogitLoss = Literal["kd", "dkd", "dist", "ltkd"]
Robust = Literal["none", "noise", "augmix", "mixed"]
Operation = Literal["gaussian_noise", "gaussian_blur", "augmix"]
OPERATIONS: Mapping[Robust, tuple[Operation, ...]] = MappingProxyType(
    {
        "none": (),
        "noise": ("gaussian_noise",),
        "augmix": ("augmix",),
        "mixed": ("gaussian_noise", "gaussian_blur", "augmix"),
    }
)
"""What robust recovery does to the student's images."""


class DeckConfig(Frozen):
    """Several students in one bundle, and a gate that picks one of them for each image.

    Attributes:
        members: What each of them saw in recovery, as `compress.robust` has it; the ordinary student's `none` among
            them. None and one are no deck.
        share: Of the views that the gate is fitted to, those that are changed: the larger, the more readily a robust
            member is picked.
    """

    members: tuple[Robust, ...] = ()
    share: float = Field(default=0.3, ge=0, le=1)

    @field_validator("members")
    @classmethod
    def _each_once(cls, members: tuple[Robust, ...]) -> tuple[Robust, ...]:
        if len(set(members)) < len(members):
            raise ValueError(f"a member is named twice: {', '.join(members)}")
        return members


class Budget(Frozen):
    """What every method is given alike, the plain one and ours. One of the first three says what may stay.

    Attributes:
        keep_flops: Share of the multiply-adds that may stay: half of them where nothing else says what may.
        keep_latency: Share of the teacher's latency that may stay, as predicted on the target for one image.
        max_latency_ms: Latency that may stay, predicted alike.
        drop_blocks: How many residual blocks go whole before channels do: those whose loss is the easiest to make up
            for, beside what they save. Where it is not given, none for multiply-adds; for latency, as many as cost the
            outputs least.
        judged_images: Images of the classes, and out-of-distribution images, that ranking channels, judging blocks and
            regressing layers look at, at most: more make it no better. Every class has the same number where labels
            are known. Recovery draws from all.
        steps: Optimiser steps of the recovery.
        shift: Training images are shifted at random by up to this share of their size.
        flip: Training images are mirrored at random.
        robust: What the student sees, while the teacher sees the clean image: images as they are (`none`), with
            Gaussian `noise`, changed by `augmix`, or `mixed`: a third each with noise, Gaussian blur and AugMix.
        robust_share: Share of a batch's images that the student sees changed: the strength of robust recovery.
    """

    keep_flops: float | None = Field(default=None, gt=0, le=1)
    keep_latency: float | None = Field(default=None, gt=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0)
    drop_blocks: int | None = Field(default=None, ge=0)
    judged_images: int = Field(default=4000, ge=2)
    steps: int = Field(default=1000, ge=1)
    shift: float = Field(default=0.125, ge=0, le=0.5)
    flip: bool = True
    robust: Robust = "none"
    robust_share: float = Field(default=0.75, gt=0, le=1)

    @property
    def asked(self) -> tuple[str, float]:
        """What says how much may stay, and its value."""
        return next((name, value) for name in BUDGETS if (value := getattr(self, name)) is not None)

    @property
    def is_of_latency(self) -> bool:
        """Whether latency is what counts."""
        return self.keep_flops is None

    @model_validator(mode="before")
    @classmethod
    def _is_one(cls, values: Any) -> Any:
        """One budget: half of the multiply-adds where none is given."""
        if not isinstance(values, dict):
            return values
        given = [name for name in BUDGETS if values.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are {len(given)} budgets: give one of them")
        return values if given else {**values, "keep_flops": 0.5}


BUDGETS = ("keep_flops", "keep_latency", "max_latency_ms")
"""Settings of which one says how much may stay."""


class MimicConfig(Frozen):
    """What a net that mimics the teacher is shown, and what of it counts.

    Attributes:
        few_per_step: Few-sample images in a batch.
        ood_per_step: OOD images in a batch, where OOD images take part.
        joint: lambda of eq. 7, the few samples' share of the loss.
        ood_share: Whether the OOD images' part of batch and loss is `constant`, as in the paper, or `falls` linearly
            from these values to nothing in the last step, few samples in its place.
        between_weight: Weight of the mean error of the maps on the way to the features, wherever student and teacher
            have them in the same shape, beside the features' error of weight 1.
        logit_weight: Weight of the logits' loss, beside the features' error of weight 1; 0 leaves it out.
        logit_loss: What compares the logits: `kd` (Hinton et al. 2015), `dkd` (Zhao et al. 2022), `dist` (Huang et al.
            2022), or `ltkd`, for a teacher that saw a long tail (arXiv 2506.18496; needs `model.trained_on`).
        loss_weights: What the two parts of the loss weigh: α, β of `dkd` and `ltkd`, β, γ of `dist`; where it is empty,
            as in the papers (1 and 8, 1 and 1, 2 and 2).
        groups: Of `ltkd`: how many groups of classes, by falling frequency.
        standardise_logits: Whether each image's logits are brought to mean 0 and deviation 1 first (Sun et al. 2024).
        temperature: Of the logits' loss.
        error: `relative` divides squared errors by the teacher's mean square, so that one learning rate serves nets of
            any scale; `squared` leaves them bare, as MiR and PRACTISE have them.
        mix: Whether each image is blended with another one `across` its batch, `within` its kind (few samples with few
            samples, OOD images with OOD images), or not (`off`). The teacher sees the same blend.
    """

    few_per_step: int = Field(default=32, ge=1)
    ood_per_step: int = Field(default=32, ge=1)
    joint: float = Field(default=0.5, ge=0, le=1)
    ood_share: OodShare = "constant"
    between_weight: float = Field(default=10.0, ge=0)
    logit_weight: float = Field(default=0.05, ge=0)
    logit_loss: LogitLoss = "kd"
    loss_weights: tuple[NonNegativeFloat, ...] = ()
    groups: int = Field(default=3, ge=2)
    standardise_logits: bool = False
    temperature: float = Field(default=2.0, gt=0)
    error: Error = "relative"
    mix: Mix = "across"

    @model_validator(mode="after")
    def _loss_has_an_effect(self) -> Self:
        if self.logit_loss != "kd" and not self.logit_weight:
            raise ValueError(f"logit_loss = '{self.logit_loss}' does nothing while logit_weight is 0: set both")
        if self.loss_weights and (self.logit_loss == "kd" or len(self.loss_weights) != 2):
            raise ValueError(
                f"loss_weights are two, of the parts of 'dkd', 'dist' or 'ltkd'; got {len(self.loss_weights)} for "
                f"'{self.logit_loss}'"
            )
        return self


class DistillConfig(MimicConfig):
    """How the student learns.

    Attributes:
        learning_rate: Peak of the schedule.
        schedule: `one-cycle`, or MiR's `steps` (a tenth at 40 % and at 80 %).
        weight_decay: Of SGD with momentum 0.9.
        gradient_norm: Larger gradients are scaled down to this norm; 0 leaves them as they are.
    """

    mix: Mix = "within"
    logit_weight: float = Field(default=0.0, ge=0)
    learning_rate: float = Field(default=0.4, gt=0)
    schedule: Schedule = "one-cycle"
    weight_decay: float = Field(default=1e-4, ge=0)
    gradient_norm: float = Field(default=1.0, ge=0)
