"""Fine-tuning on few and OOD images behind a guard (OE-FSMC eq. 8, 9)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.compress.config import FinetuneConfig
from edgec.core.progress import Progress
from edgec.learn.distill import CHUNK
from edgec.learn.inputs import Inputs
from edgec.learn.views import View, student_view
from edgec.models.infer import placed

__all__ = ["Labelled", "Tuned", "disagreement", "finetune", "open_sampling_loss"]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images, and labels, int64 [n]."""

    images: Inputs
    labels: Int[Tensor, "n"]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the guard let through.

    Attributes:
        module: The best student seen, the one given among them.
        before: The given student's disagreement with the teacher.
        after: The returned student's.
        steps: After how many steps it was best; 0 where fine-tuning did not help.
    """

    module: nn.Module
    before: float
    after: float
    steps: int


def finetune(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Labelled, Labelled],
    held_out: Inputs,
    config: FinetuneConfig,
    *,
    rates: Float[Tensor, "class"],
    fabric: Fabric,
    generator: torch.Generator,
    progress: Progress,
    view: View | None = None,
) -> Tuned:
    """Trains by eq. 9 and returns the student that disagrees least with the teacher.

    That is the one it was given unless another disagrees less beyond chance. Batch-norm statistics stay frozen:
    statistics of mixed batches cost twenty points in our trials.

    Args:
        student: Left as it is.
        teacher: In evaluation mode.
        data: Few samples, and the auxiliary set with its assigned labels.
        held_out: OOD images that nothing was trained on; the guard looks at these.
        config: How.
        rates: Gamma of eq. 4, at which the assigned labels were drawn.
        fabric: Device and precision.
        generator: Draws batches.
        progress: Shown per step.
        view: What the student sees of each image, whose label stays; the guard looks at images as they are.
    """
    few, auxiliary = data
    look = student_view(view, generator)
    tuned = copy.deepcopy(student).eval()
    gamma = (len(rates) * rates).float()  # eq. 9 leaves gamma open; Open-Sampling's K * Gamma_j has mean 1 over classes
    start = disagreement(student, teacher, held_out, fabric=fabric)
    before = float(start.sum())
    best = Tuned(module=student, before=before, after=before, steps=0)
    optimiser = torch.optim.SGD(tuned.parameters(), lr=config.learning_rate, momentum=0.9)
    model, optimiser = fabric.setup(tuned, optimiser)
    for step in progress.track(range(1, config.steps + 1), total=config.steps, what="fine-tuning", unit="step"):
        drawn = [_draw(part, config.batch_size, generator) for part in (few, auxiliary)]
        seen = [(look(images), labels) for images, labels in drawn]
        (images, labels), (ood, assigned) = fabric.to_device(seen)
        loss = open_sampling_loss(
            (model(images), labels), (model(ood), assigned), gamma=gamma.to(ood.device), eta=config.eta
        )
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimiser.step()
        if step % config.check_every == 0 or step == config.steps:
            now = disagreement(tuned, teacher, held_out, fabric=fabric)
            after = float(now.sum())
            if after < best.after and _beyond_chance(start - now):
                best = Tuned(module=copy.deepcopy(tuned).cpu(), before=before, after=after, steps=step)
    return best


def open_sampling_loss(
    few: tuple[Float[Tensor, "n class"], Int[Tensor, "n"]],
    auxiliary: tuple[Float[Tensor, "m class"], Int[Tensor, "m"]],
    *,
    gamma: Float[Tensor, "class"],
    eta: float,
) -> Float[Tensor, ""]:
    """Eq. 9: CE on the few samples + eta * E[gamma_y CE(f(x), y)] on the auxiliary set.

    The expectation is the mean over the batch; PyTorch's weighted mean would divide by the sum of gamma.
    """
    regulariser = (gamma[auxiliary[1]] * F.cross_entropy(*auxiliary, reduction="none")).mean()
    return F.cross_entropy(*few) + eta * regulariser


@torch.no_grad()
def disagreement(student: nn.Module, teacher: nn.Module, images: Inputs, *, fabric: Fabric) -> Float[Tensor, "image"]:
    """Each image's part in the share that gets another class than from the teacher.

    Each class that the teacher predicts weighs the same. Divergence would be no measure: it falls when a student
    merely loses confidence, while its classes fall apart.
    """
    wanted, wrong = [], []
    with placed(teacher, fabric.device), placed(student, fabric.device):
        for batch in images.split(CHUNK):
            batch = fabric.to_device(batch)
            wanted.append(teacher(batch).argmax(1))
            logits = student(batch)
            wrong.append((logits.argmax(1) != wanted[-1]) | ~logits.isfinite().all(1))
    _, positions, counts = torch.cat(wanted).unique(return_inverse=True, return_counts=True)
    return (torch.cat(wrong).double() / (len(counts) * counts[positions])).cpu()


def _beyond_chance(gains: Float[Tensor, "image"]) -> bool:
    """Whether the sum of paired differences is above zero, one-sided at 95 %, by their own spread."""
    return len(gains) > 1 and float(gains.sum()) > 1.645 * float(gains.std() * len(gains) ** 0.5)


def _draw(data: Labelled, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(data.labels), (n,), generator=generator)
    return data.images[chosen], data.labels[chosen]
