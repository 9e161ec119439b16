"""Learngenes of a teacher's own layers, recomposed at the depth that the budget lets stay (Feng et al., NeurIPS 2024).

The paper trains its components on a whole data set. Here the teacher is trained already: its layers are fitted in
closed form, then nets that are sums of the components learn from the teacher on the few samples and the OOD images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from edgec.compress.blocks import without_blocks
from edgec.compress.config import LearngeneConfig
from edgec.compress.job import CompressJob, methods
from edgec.compress.learngenes import Learngenes
from edgec.compress.price import Limit, layers_of, within
from edgec.compress.recovery import finished, recover, recover_together
from edgec.compress.sequence import layer_sequence, layers_of_depth
from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError
from edgec.core.progress import Progress
from edgec.models.infer import to_tensor

__all__ = ["compress", "decomposed", "depth_within"]


@methods.register("learngene", LearngeneConfig, requires=layer_sequence)
def compress(job: CompressJob, config: LearngeneConfig, *, progress: Progress) -> Classifier:
    """Decomposes, recomposes at the depth that may stay, and recovers; OE-FSMC brings OOD images to both.

    The first part of the steps is the components', the rest the student's. Where every layer may stay, each stays as
    it is.

    Raises:
        UnsupportedError: The model is no sequence of layers that are alike (`layer_sequence`).
        ConfigError: The budget lets no layer stay, or fewer than were asked for.
    """
    layers = layer_sequence(job.cut, to_tensor(job.few.first(2), job.teacher.input))
    depth = depth_within(job, layers, config)
    if depth == len(layers):
        return _whole(job, layers, config, progress=progress)
    first = round(config.decompose * job.budget.steps)
    learngenes = decomposed(job, layers, config, steps=first, progress=progress)
    student = learngenes.recomposed(depth)
    rest = job.budget.steps - first
    if rest:
        student = recover(student, _for_steps(job, rest), config, progress=progress)
    facts = {
        "layers": layers_of_depth(layers, depth),
        "components": learngenes.count,
        "basis": config.basis,
        "missed_by_fit": round(learngenes.missed, 4),
        "steps": job.budget.steps,
        "decomposition_steps": first,
    }
    return finished(student, job, Step(method="learngene", facts=facts))


def _whole(job: CompressJob, layers: Sequence[str], config: LearngeneConfig, *, progress: Progress) -> Classifier:
    student = recover(job.cut, job, config, progress=progress)
    facts = {"layers": list(layers), "steps": job.budget.steps}
    return finished(student, job, Step(method="learngene", facts=facts))


def decomposed(
    job: CompressJob, layers: tuple[str, ...], config: LearngeneConfig, *, steps: int, progress: Progress
) -> Learngenes:
    """Learngenes that know nets of several depths: fitted to the teacher's layers, then trained to do what it does.

    Args:
        job: The compression.
        layers: Of its net.
        config: How.
        steps: Optimiser steps, over all depths; without any, the fit is all.
        progress: Shown per step.

    Raises:
        ConfigError: A depth is larger than the net's.
    """
    learngenes = Learngenes.of(job.cut, layers, config)
    if not steps:
        return learngenes
    whole = len(layers)
    depths = config.depths or sorted({math.ceil(whole * share) for share in (0.25, 0.5, 0.75, 1)})
    _require_layers(max(depths), whole, "depths")
    nets, share = learngenes.learning(depths), config.decompose_rate
    learned = recover_together(nets, _for_steps(job, steps), config, rate_share=share, progress=progress)
    return learngenes.learned(learned[0])


def depth_within(job: CompressJob, layers: Sequence[str], config: LearngeneConfig) -> int:
    """How many layers the student has: as the settings say, or as many as the budget lets stay.

    Raises:
        ConfigError: Fewer may stay than the settings say, or none.
    """
    _require_layers(config.depth or 1, len(layers), "depth")

    def cut(depth: int) -> nn.Module:
        kept = layers_of_depth(layers, depth)
        return without_blocks(job.cut, [name for name in layers if name not in kept])

    def choose(limit: Limit) -> int:
        depths = range(len(layers), 0, -1) if config.depth is None else [config.depth]
        planned = {depth: limit.price.of_layers(layers_of(cut(depth))) for depth in depths}
        within_it = [depth for depth, amount in planned.items() if limit.allows(amount)]
        if not within_it:
            least = min(planned)
            layers_left = f"{least} of {len(layers)} layers" if least > 1 else "one layer"
            raise limit.out_of_reach(f"{layers_left} leave{'s' * (least == 1)}", planned[least])
        return within_it[0]

    choose(job.final_limit)
    return within(job.limit, choose, cut)


def _require_layers(depth: int, whole: int, setting: str) -> None:
    if depth > whole:
        raise ConfigError(
            f"{setting} = {depth}: the net has {whole} layers",
            hint=f"set compress.learngene.{setting} to {whole} or less, or leave it out",
        )


def _for_steps(job: CompressJob, steps: int) -> CompressJob:
    return replace(job, budget=job.budget.model_copy(update={"steps": steps}))
