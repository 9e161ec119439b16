"""Trains a net on labels, and where there is a teacher on what it says of the same images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.core.errors import ConfigError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.learn.batches import augment
from edgec.models.infer import placed, to_tensor
from edgec.study.config import Training

__all__ = ["Lesson", "Objective", "labels_alone", "train"]

Objective = Callable[
    [Float[Tensor, "batch class"], Float[Tensor, "batch class"] | None, Int[Tensor, "batch"]], Float[Tensor, ""]
]
"""The loss of the net's logits, from the teacher's logits, if there is a teacher, and the labels."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained on, and how.

    Attributes:
        samples: Labelled images.
        input: How the net takes them.
        training: Rates and batches.
        shift: As in `[compress]`.
        flip: Training images are mirrored at random.
        seed: Of batches, augmentation and dropout.
    """

    samples: Samples
    input: InputSpec
    training: Training
    shift: float
    flip: bool
    seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.training.steps_over(len(self.samples))


def labels_alone(
    logits: Float[Tensor, "batch class"], wanted: Float[Tensor, "batch class"] | None, labels: Int[Tensor, "batch"]
) -> Float[Tensor, ""]:
    """Cross-entropy."""
    del wanted
    return F.cross_entropy(logits, labels)


def train(
    module: nn.Module,
    lesson: Lesson,
    *,
    objective: Objective = labels_alone,
    teacher: nn.Module | None = None,
    fabric: Fabric,
    progress: Progress,
) -> nn.Module:
    """A trained copy, in evaluation mode on the CPU.

    SGD with momentum 0.9 under one cycle that peaks at the learning rate: the papers of the studies name no schedule.

    Args:
        module: The net to begin with; it is left as it is.
        lesson: Images, rates, batches.
        objective: What is minimised.
        teacher: Sees the images of each batch as the net does.
        fabric: Device and precision.
        progress: Shown per step.

    Raises:
        ConfigError: The learning rate is too high: a weight became NaN or infinite.
    """
    student, how = copy.deepcopy(module).train(), lesson.training
    optimiser = torch.optim.SGD(student.parameters(), how.learning_rate, momentum=0.9, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, how.learning_rate, total_steps=lesson.steps + 1, cycle_momentum=False
    )
    model, optimiser = fabric.setup(student, optimiser)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices), placed(nn.Identity() if teacher is None else teacher, fabric.device) as shown:
        torch.manual_seed(lesson.seed)
        for images, labels in progress.track(
            islice(_batches(lesson), lesson.steps), total=lesson.steps, what="training", unit="step"
        ):
            images, labels = fabric.to_device((images, labels))
            wanted = None
            if teacher is not None:
                with torch.no_grad(), fabric.autocast():
                    wanted = shown(images)
            loss = objective(model(images), wanted, labels)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimiser.step()
            schedule.step()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in student.state_dict().values()):
        raise ConfigError(
            f"a weight became NaN or infinite: a learning rate of {how.learning_rate:g} is too high for this net",
            hint="lower it with --learning-rate",
        )
    return student.eval().to("cpu")


def _batches(lesson: Lesson) -> Iterator[tuple[Float[Tensor, "batch channel height width"], Int[Tensor, "batch"]]]:
    """All images in random order, again and again; one that is left over is seen with one that was."""
    samples = lesson.samples
    generator = torch.Generator().manual_seed(lesson.seed)
    pixels, labels = samples.decoded(), torch.as_tensor(samples.labels)
    while True:
        order = torch.randperm(len(samples), generator=generator)
        for chosen in order.split(lesson.training.batch_size):
            if len(chosen) == 1:  # batch norm needs two
                chosen = torch.cat([chosen, order[:1]])
            images = to_tensor(pixels[chosen.numpy()], lesson.input)
            yield augment(images, shift=lesson.shift, flip=lesson.flip, generator=generator), labels[chosen]
