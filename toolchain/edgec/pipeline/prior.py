"""The teacher's class frequencies where nobody knows them: its last layer, and what it says of changed few samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.errors import UnsupportedError
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.data import Prepared

if TYPE_CHECKING:
    from torch import nn

    from edgec.core.inputs import InputSpec
    from edgec.core.samples import Samples
    from edgec.learn.prior_estimate import PriorEstimate
    from edgec.learn.temperature import Run

__all__ = ["class_counts", "estimated_prior", "estimated_with", "head_of"]

_VIEWS = 1000
_BATCH = 100


def class_counts(sources: Sources, images: Prepared, graph: Path) -> np.ndarray | None:
    """Training images of each class as the config says, or in proportion as they are estimated; None for all alike."""
    from edgec.learn.prior import training_counts

    estimate = estimated_prior(sources, images, graph)
    return training_counts(sources.plan.model.trained_on, images.few, estimate)


def estimated_prior(sources: Sources, images: Prepared, graph: Path) -> PriorEstimate | None:
    """What the teacher's weights and the few samples say; None where the config does not ask.

    Args:
        sources: Plan and teacher.
        images: The few samples.
        graph: The teacher, where it was given as a graph, before anything was done to its logits.
    """
    from edgec.learn.prior_estimate import no_estimate
    from edgec.pipeline.confidence import teacher_run

    plan = sources.plan
    if plan.model.trained_on != "estimate":
        return None
    weight = _weight(sources, graph)
    if weight is None:
        return no_estimate("no linear layer gives the logits, so there are no rows to compare")
    with teacher_run(sources, graph) as run:
        return estimated_with(run, weight, images.few, plan.model.input, seed=plan.config.seed)


def estimated_with(run: Run, weight: np.ndarray, few: Samples, spec: InputSpec, *, seed: int) -> PriorEstimate:
    """The estimate from a teacher that runs, its last layer [class, feature], and few samples.

    The samples are shown changed, since a teacher that learned from them makes no mistake on them; without noise,
    since a classifier that does not know noise gives it to a few classes, whatever their frequency.
    """
    import torch

    from edgec.learn.draws import balanced_chances
    from edgec.learn.prior_estimate import estimate_prior
    from edgec.learn.temperature import changed, probabilities, view_count
    from edgec.models.infer import to_tensor

    generator = torch.Generator().manual_seed(seed)
    count = min(_VIEWS, view_count(spec, classes=len(few.classes)))
    chances = torch.as_tensor(balanced_chances(few.labels))
    drawn = torch.multinomial(chances, count, replacement=True, generator=generator).numpy()
    batches = (drawn[start : start + _BATCH] for start in range(0, count, _BATCH))
    logits = [run(changed(to_tensor(few.pixels[batch], spec), generator, noise=0.0)) for batch in batches]
    given = probabilities(np.concatenate(logits).astype(np.float64))
    return estimate_prior(weight, given, drawn, few.labels, seed=seed)


def _weight(sources: Sources, graph: Path) -> np.ndarray | None:
    """Of the last layer, float32 [class, feature]; None where no linear layer gives the logits."""
    if sources.plan.model.is_onnx:
        import onnx

        from edgec.export.logits import weight_of_last_layer

        return weight_of_last_layer(onnx.load(graph), classes=len(sources.labels))
    return head_of(sources.classifier.module, sources.plan.model.input)


def head_of(module: nn.Module, spec: InputSpec) -> np.ndarray | None:
    """The weight of a module's last layer, float32 [class, feature]; None where no linear layer gives the logits."""
    import torch

    from edgec.models.taps import find_tap

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    example = torch.zeros(1, spec.channels, spec.height, spec.width, device=device)
    try:
        head = find_tap(module, example).head
    except UnsupportedError:
        return None
    weight = module.get_submodule(head).weight
    return weight.detach().float().cpu().numpy() if isinstance(weight, torch.Tensor) else None
