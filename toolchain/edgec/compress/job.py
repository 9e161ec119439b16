"""What a compression method is given, and the registry that methods are found in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.compress.config import Widths
from edgec.compress.price import Limit, MultiplyAdds, Price, limit_of
from edgec.compress.subset import weighed_subset
from edgec.core.classifier import Classifier
from edgec.core.registry import Registry
from edgec.core.samples import Images, Samples
from edgec.core.target import Rules
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.inputs import streamed
from edgec.learn.layerwise import Weighed
from edgec.learn.teachers import Teachers
from edgec.learn.views import View, view_of
from edgec.models.infer import to_tensor

__all__ = ["Auxiliary", "CompressJob", "methods", "weighed"]


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """What OE-FSMC adds to a method.

    Attributes:
        pool: OOD images to recover on.
        chances: How often each image of the pool is drawn, summing to 1.
        labelled: The auxiliary set: m images of the pool with labels by eq. 4.
        labels: Their labels.
        class_weights: w_j of eq. 5; None where channels are ranked without regard to classes.
        widths: Whether every layer keeps the same share of its channels, or each by its cost.
        near: Images of the classes: the few samples, then unlabelled ones of the same kind, where there are some.
        near_chances: How often each of them is drawn, summing to 1.
        recovery: How to distil jointly, where the method recovers by distillation in its place, else after its own
            way; None where the method's own way is all.
    """

    pool: Images
    chances: Float[np.ndarray, "pool"]
    labelled: Images
    labels: Int[np.ndarray, "m"]
    class_weights: Float[np.ndarray, "class"] | None
    widths: Widths
    near: Images
    near_chances: Float[np.ndarray, "near"]
    recovery: DistillConfig | None


@dataclass(frozen=True, kw_only=True)
class CompressJob:
    """One compression.

    Attributes:
        teacher: What is compressed, and what the student learns from.
        base: The teacher without the blocks that went first; None where none did.
        begun: What a stage before left of the teacher; None in the first.
        goal: Share of the multiply-adds that the last stage is to leave, where this is one before it.
        few: The few labelled samples.
        trained_on: Images of each class that the teacher was trained on, where that matters and they were not alike.
        teachers: Further teachers, where recovery listens to them.
        unlabelled: Images of the classes without labels, for recovery; None where there are none.
        auxiliary: What OE-FSMC adds; None for the plain method.
        budget: Size to reach, steps, augmentation.
        latency: Latency on the target as a price; None where multiply-adds are what counts.
        widths: How many channels each producer keeps, where that is settled already.
        rules: How many channels of a layer may stay.
        seed: Seeds every draw.
        fabric: Device and precision.
    """

    teacher: Classifier
    base: Classifier | None = None
    begun: Classifier | None = None
    goal: float | None = None
    few: Samples
    trained_on: Int[np.ndarray, "class"] | None = None
    teachers: Teachers | None = None
    unlabelled: Images | None = None
    budget: Budget
    latency: Price | None = None
    widths: Mapping[str, int] | None = None
    auxiliary: Auxiliary | None = None
    rules: Rules = field(default_factory=Rules)
    seed: int = 0
    fabric: Fabric

    @property
    def cut(self) -> nn.Module:
        """What is cut: the teacher, or what is left of it without some blocks or after a stage before."""
        return (self.begun or self.whole).module

    @property
    def whole(self) -> Classifier:
        """What is cut at first: the teacher, or what is left of it without the blocks that went before."""
        return self.base or self.teacher

    @cached_property
    def example(self) -> Float[Tensor, "1 channel height width"]:
        """An input."""
        return to_tensor(self.few.first(1), self.teacher.input)

    @cached_property
    def price(self) -> Price:
        """What the budget counts."""
        return self.latency or MultiplyAdds(self.teacher.module, self.example)

    @property
    def limit(self) -> Limit:
        """What may stay."""
        return limit_of(self.budget, self.price)

    @property
    def final_limit(self) -> Limit:
        """What may stay after the last stage."""
        if self.goal is None:
            return self.limit
        return limit_of(self.budget.model_copy(update={"keep_flops": self.goal}), self.price)

    @property
    def view(self) -> View | None:
        """What the student sees of each image; None for what the teacher sees."""
        return view_of(self.budget.robust, self.budget.robust_share, self.teacher.input)

    @property
    def near(self) -> Images:
        """Images of the classes: the few samples, then the unlabelled ones, where there are some."""
        return self.few if self.unlabelled is None else self.few.joined(self.unlabelled)


def weighed(job: CompressJob, *, joint: float) -> Weighed:
    """The images of eq. 7: lambda spread over images of the classes, 1 - lambda over the pool.

    Within each, as often as an image is drawn; where there are many, over `judged_images` of them. Without an auxiliary
    set, the few samples alone and each alike.
    """
    auxiliary = job.auxiliary
    if auxiliary is None:
        parts = [(job.few, np.full(len(job.few), 1 / len(job.few)), job.few.labels)]
    else:
        few, ood = joint * auxiliary.near_chances, (1 - joint) * auxiliary.chances
        parts = [(auxiliary.near, few, job.few.labels), (auxiliary.pool, ood, None)]
    most = job.budget.judged_images
    seen = [weighed_subset(part, count, most, labels=labels, seed=job.seed) for part, count, labels in parts]
    images = seen[0][0] if auxiliary is None else seen[0][0].joined(seen[1][0])
    shares = torch.cat([torch.as_tensor(part) for _, part in seen]).float()
    return Weighed(images=streamed(images, job.teacher.input), shares=shares.to(job.fabric.device))


methods: Registry[Callable[..., Classifier]] = Registry("compression method")
