"""Trains a net on labels, and where there is a teacher on its outputs: knowledge distillation (Hinton et al. 2015)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
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
from edgec.study.imbalance.grid import Training

__all__ = ["Lesson", "distillation_loss", "train"]

FROM_TEACHER = 0.7
"""Weight of the distillation loss in the study of docs/methods.md §2; labels have the rest. The temperature is 1."""


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


def train(
    module: nn.Module, lesson: Lesson, *, teacher: nn.Module | None = None, fabric: Fabric, progress: Progress
) -> nn.Module:
    """A trained copy, in evaluation mode on the CPU.

    The paper names momentum, schedule and batch size nowhere: SGD with momentum 0.9 under one cycle that peaks at its
    learning rate.

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
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            if teacher is not None:
                with torch.no_grad(), fabric.autocast():
                    wanted = shown(images)
                loss = FROM_TEACHER * distillation_loss(logits, wanted) + (1 - FROM_TEACHER) * loss
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


def distillation_loss(logits: Float[Tensor, "batch class"], wanted: Float[Tensor, "batch class"]) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of what the student says from what the teacher says, at temperature 1."""
    return F.kl_div(
        logits.float().log_softmax(1), wanted.float().log_softmax(1), reduction="batchmean", log_target=True
    )


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
