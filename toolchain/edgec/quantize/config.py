"""Settings of quantisation, apart from the code that needs torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgec.core.frozen import Frozen
from edgec.core.target import Target
from edgec.learn.config import MimicConfig, Robust

__all__ = ["QuantizeConfig", "TrainConfig"]


class TrainConfig(MimicConfig):
    """How the rounded net learns.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak of the one-cycle schedule, of Adam, relative to the size of each parameter.
        steps_learn: Whether the step sizes of weights and activations learn as well (LSQ).
        shift: As in `[compress]`.
        flip: As in `[compress]`.
        robust: What the rounded net sees, while the teacher sees the clean image; as in `[compress]` where it is not
            given, with its `robust_share`.
    """

    steps: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=0.003, gt=0)
    steps_learn: bool = True
    shift: float = Field(default=0.125, ge=0, le=0.5)
    flip: bool = True
    robust: Robust | None = None


class QuantizeConfig(Frozen):
    """From ranges to integers.

    Attributes:
        scheme: Overrides the target's.
        weight_bits: Overrides the target's: 8, or 4, stored in 8.
        float_type: Overrides the target's: what stays in floating point beside int8.
        equalize: Whether channels between two convolutions are scaled so that both weights use their grids well.
        rounding: Weights to the `nearest` integer, or `compensated`: those not yet rounded make up for those that are.
            Where it is not given, compensated in 4 bits, nearest in 8.
        correct_biases: Whether biases take up the mean error of the rounded weights; where it is not given, in 4 bits.
        train: Whether the rounded net is trained, by the settings of `training`.
        training: How.
        sensitivity: Whether the report tells what rounding each layer, and each activation that is no layer's, costs
            each class.
        mixed_precision: Largest share of a class's images that may get another class by rounding; the fewest layers and
            activations that this takes stay in floating point, and the build fails where it cannot be kept. Judged on
            the file, with the few samples and the OOD images.
    """

    scheme: Literal["float32", "float16", "s8s8", "u8s8"] | None = None
    weight_bits: Literal[4, 8] | None = None
    float_type: Literal["float16", "float32"] | None = None
    equalize: bool = False
    rounding: Literal["nearest", "compensated"] | None = None
    correct_biases: bool | None = None
    train: bool = False
    training: TrainConfig = TrainConfig()
    sensitivity: bool = False
    mixed_precision: float | None = Field(default=None, ge=0, lt=1)

    def compensates(self, target: Target) -> bool:
        """Whether weights are rounded so that they make up for each other."""
        return self.rounding == "compensated" or (self.rounding is None and target.quantization.weight_bits == 4)

    def corrects_biases(self, target: Target) -> bool:
        """Whether biases take up what rounding shifts."""
        return target.quantization.weight_bits == 4 if self.correct_biases is None else self.correct_biases

    def refines(self, target: Target) -> bool:
        """Whether more is to be done than rounding everything to the nearest integer."""
        asked = self.equalize or self.train or self.sensitivity or self.mixed_precision is not None
        narrow = target.quantization.weight_bits == 4
        return asked or narrow or self.compensates(target) or self.corrects_biases(target)
