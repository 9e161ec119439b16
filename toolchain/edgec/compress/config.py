"""Settings of compression, apart from the code that needs torch."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from edgec.core.frozen import Frozen
from edgec.learn.config import DistillConfig, Error, Mix, OodShare, Schedule

__all__ = [
    "Basis",
    "CdConfig",
    "ClassWeights",
    "FinetuneConfig",
    "FskdConfig",
    "Importance",
    "LearngeneConfig",
    "MirConfig",
    "OefsmcConfig",
    "Part",
    "PractiseConfig",
    "Variant",
    "Widths",
]

Importance = Literal["l1", "taylor"]
Variant = Literal["plain", "few", "ours"]
"""How a method is run: alone; under our recipe with the few samples in the OOD images' place; under it, whole."""
Widths = Literal["even", "by-cost"]
Basis = Literal["chebyshev", "powers"]
Part = Literal["compression", "finetuning"]


class ClassWeights(str, Enum):
    """Readings of eq. 6's class weight w_j."""

    FREQUENCY = "frequency"
    """Share of the class among the few samples: eq. 1, what plain methods do."""
    MIXED = "mixed"
    """Share in few and auxiliary images with their assigned labels: nearly flat. Our reading of eq. 6."""
    INVERSE = "inverse"
    """Inverse of the class's count among the few samples."""
    COMPLEMENTARY = "complementary"
    """The label rates of eq. 4."""


class MirConfig(DistillConfig):
    """The paper's values: batches of 64, SGD at 0.02, a tenth at 40 % and 80 %, features alone, bare, no blending."""

    learning_rate: float = Field(default=0.02, gt=0)
    schedule: Schedule = "steps"
    ood_share: OodShare = "constant"
    between_weight: float = Field(default=0.0, ge=0)
    error: Error = "squared"
    mix: Mix = "off"
    gradient_norm: float = Field(default=0.0, ge=0)


class PractiseConfig(MirConfig):
    """PRACTISE recovers as MiR does, once whole blocks are gone.

    Attributes:
        adaptor_images: Images at most that a block's recoverability is measured on.
        adaptor_steps: Steps of L-BFGS on the 1x1 adaptor that stands in for a block meanwhile. Eight on 32 images
            chose the same blocks of ResNet-20 and ResNet-56 as sixteen and more on 50.
    """

    adaptor_images: int = Field(default=32, ge=1)
    adaptor_steps: int = Field(default=8, ge=0)


class LearngeneConfig(DistillConfig):
    """Learngenes of the teacher's own layers, and how they are learned where OE-FSMC does not recover jointly.

    Attributes:
        components: N, how many learngenes each kind of parameter has, but for nets of fewer layers: these have as many
            as layers.
        basis: Polynomials of a layer's position: `chebyshev` or `powers`.
        depth: Layers of the student; where it is not given, as many as the budget lets stay.
        depths: Of the nets that the components learn as, in turns, a step each; where none are given, a quarter, a
            half, three quarters of the teacher's, and all of it. The paper has all of it alone.
        decompose: Share of the steps that the components learn in, before the net that ships recovers by itself.
        decompose_rate: Share of recovery's learning rate that they learn at: their gradients are sums over the layers.
    """

    components: int = Field(default=4, ge=1)
    basis: Basis = "chebyshev"
    depth: int | None = Field(default=None, ge=1)
    depths: tuple[PositiveInt, ...] = ()
    decompose: float = Field(default=0.5, ge=0, le=1)
    decompose_rate: float = Field(default=0.25, gt=0)


class FskdConfig(Frozen):
    """FSKD's least squares.

    Attributes:
        joint: lambda of eq. 7, the few samples' share of the error where OOD images take part.
        ridge: Pull of each 1x1 convolution towards changing nothing: times a layer's channels per position seen, it is
            the share of a channel's variance that is added to it. A layer with few positions is pulled the more.
    """

    joint: float = Field(default=0.5, ge=0, le=1)
    ridge: float = Field(default=1.0, gt=0)


class CdConfig(Frozen):
    """CD's layer-wise regression and fine-tuning, with the paper's values for ResNets.

    Attributes:
        joint: lambda of eq. 7, the few samples' share of the error where OOD images take part.
        correction: mu, what the error on the teacher's inputs weighs; that on the student's own weighs 1 - mu. The
            paper has 0.6 for VGG.
        layer_steps: Optimiser steps a layer; channels go during the first third.
        learning_rate: Of Adam, for a layer; a tenth after the first third.
        finetune_steps: Optimiser steps of fine-tuning.
        finetune_rate: Its learning rate, of SGD with momentum 0.9.
        batch_size: Its images a step.
    """

    joint: float = Field(default=0.5, ge=0, le=1)
    correction: float = Field(default=0.9, ge=0, le=1)
    layer_steps: int = Field(default=3000, ge=3)
    learning_rate: float = Field(default=1e-3, gt=0)
    finetune_steps: int = Field(default=100, ge=0)
    finetune_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=64, ge=1)


class FinetuneConfig(Frozen):
    """The paper's values, but for the steps, which it does not give.

    Attributes:
        steps: Optimiser steps.
        check_every: Steps between two looks at the guard.
        learning_rate: Of SGD with momentum 0.9.
        batch_size: Images a step from each of the two sets.
        eta: Weight of the OOD images' term in eq. 9.
    """

    steps: int = Field(default=60, ge=1)
    check_every: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    batch_size: int = Field(default=128, ge=1)
    eta: float = Field(default=2.5, ge=0)


class OefsmcConfig(Frozen):
    """What is added to the method.

    Attributes:
        like: Whose values the other settings start from: `ours`, the better by measurement, or the `paper`'s.
        parts: The parts that are run: `compression`, its own pruning and recovery, and `finetuning`, eq. 9. The paper
            has both, and none leaves the plain method. Fine-tuning helped no student that was recovered jointly.
        ood: Whether OOD images take part: `always`, `never` (our recipe on the few samples alone), or `auto`, if to the
            teacher they are near the few samples: far ones may harm.
        style: Whose colours, spectrum and levels the OOD images have: those of the `few` samples, their `own`, or
            `auto`, their own if those are near and else those of the few samples.
        auxiliary: m, how many OOD images get a label; as many as there are few samples where it is not given.
        held_out: Share of the OOD images that nothing is trained on, for fine-tuning's guard.
        labels: How eq. 4's labels are drawn: by largest `remainder`, steadier where m is small, or at `random`.
        distill_on: Which OOD images take part in recovery: the whole `pool`, or the `auxiliary` set alone.
        draws: `balanced` flattens the class mass of what is drawn; `natural` draws every image alike.
        widths: How many channels each layer keeps: an `even` share, or `by-cost`, trading layers for each other by what
            their channels cost the outputs (Fisher information over few and OOD images) per multiply-add.
        stages: In how many cuts the multiply-adds go, each recovered with its part of the steps before the next. Two
            raised the accuracy of one net and lowered that of another.
        importance: What a channel is worth: `l1`, the norm of its filter, or `taylor`, eq. 5 over few and OOD images.
            The paper leaves open what eq. 5 adds up; the norm gave the better students, ours and the paper's.
        class_weights: Reading of eq. 6, for `taylor`.
        recover: `jointly`, by the settings of `recovery`, or as the `method` itself does, on both kinds of image.
        recovery: How to distil jointly.
        finetune: Eq. 9.
    """

    like: Literal["ours", "paper"] = "ours"
    parts: tuple[Part, ...] = ("compression",)
    ood: Literal["auto", "always", "never"] = "auto"
    style: Literal["auto", "few", "own"] = "auto"
    auxiliary: int | None = Field(default=None, ge=2)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    labels: Literal["remainder", "random"] = "remainder"
    distill_on: Literal["pool", "auxiliary"] = "pool"
    draws: Literal["balanced", "natural"] = "balanced"
    widths: Widths = "by-cost"
    stages: int = Field(default=1, ge=1, le=8)
    importance: Importance = "l1"
    class_weights: ClassWeights = ClassWeights.MIXED
    recover: Literal["jointly", "method"] = "jointly"
    recovery: DistillConfig = DistillConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @property
    def finetunes(self) -> bool:
        """Whether fine-tuning by eq. 9 takes place."""
        return "finetuning" in self.parts

    @model_validator(mode="before")
    @classmethod
    def _start_from(cls, values: Any) -> Any:
        """What is not given is as in the paper, where that was asked for."""
        asked = isinstance(values, dict) and values.get("like") == "paper"
        return {**PAPER, **values} if asked else values


PAPER = {
    "parts": ("compression", "finetuning"),
    "ood": "always",
    "style": "own",
    "labels": "random",
    "distill_on": "auxiliary",
    "draws": "natural",
    "widths": "even",
    "recover": "method",
}
"""Where OE-FSMC as in the paper (arXiv 2502.05832) differs from our defaults."""
