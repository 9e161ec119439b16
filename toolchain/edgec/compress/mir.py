"""MiR, mimicking then replacing (Wang et al. 2022, arXiv 2201.02620).

Channels inside each block are pruned; then the whole net mimics the teacher's features before global pooling,
under the teacher's head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgec.compress.config import MirConfig
from edgec.compress.distill import Pool, distill
from edgec.compress.flops import total_flops
from edgec.compress.importance import class_taylor, importance
from edgec.compress.job import CompressJob, methods
from edgec.compress.prune import Coupled, coupled_channels, kept_channels, prune
from edgec.core.classifier import Classifier, Step
from edgec.core.progress import Progress
from edgec.models.infer import to_tensor
from edgec.models.taps import find_tap

__all__ = ["compress"]


@methods.register("mir", MirConfig)
def compress(job: CompressJob, config: MirConfig, *, progress: Progress) -> Classifier:
    """Prunes and recovers.

    Channels are ranked by the L1 norm of their filters, as the paper has it, or by class-aware Taylor terms (OE-FSMC
    eq. 5) where the auxiliary set brings class weights. The student sees the few samples alone, or, with an
    auxiliary set, both kinds of image (eq. 7).
    """
    teacher, spec = job.teacher.module, job.teacher.input
    few = to_tensor(job.few.decoded(), spec)
    example = few[:1]
    coupled = coupled_channels(teacher, find_tap(teacher, few[:2]).head, example)
    widths = kept_channels(
        teacher, coupled, example, keep_flops=job.budget.keep_flops, channel_multiple=job.channel_multiple
    )
    scores = _class_aware(job, few, coupled) or _l1_norms(teacher, coupled)
    kept = {name: scores[name].topk(width).indices.sort().values for name, width in widths.items()}
    student = prune(teacher, kept, example)

    pools, recovery = _pools(job, few), config if job.auxiliary is None else job.auxiliary.recovery
    generator = torch.Generator().manual_seed(job.seed)
    student = distill(
        student,
        teacher,
        pools,
        recovery,
        budget=job.budget,
        fabric=job.fabric,
        generator=generator,
        progress=progress,
    )
    facts = {
        "kept_flops": round(total_flops(student, example) / total_flops(teacher, example), 4),
        "kept_channels": widths,
        "steps": job.budget.steps,
    }
    return job.teacher.after(student, Step(method="mir", facts=facts))


def _l1_norms(module: nn.Module, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    return {
        c.producer: module.get_submodule(c.producer).get_parameter("weight").detach().abs().flatten(1).sum(1)
        for c in coupled
    }


def _class_aware(job: CompressJob, few: Tensor, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    """Eq. 5 over the few samples and the auxiliary set with its assigned labels; nothing without class weights."""
    auxiliary = job.auxiliary
    if auxiliary is None or auxiliary.class_weights is None:
        return {}
    extra = to_tensor(auxiliary.labelled.decoded(), job.teacher.input)
    images = torch.cat([few, extra])
    labels = torch.cat([torch.as_tensor(job.few.labels), torch.as_tensor(auxiliary.labels)])
    batches = list(zip(images.split(128), labels.split(128), strict=True))
    judges = [c.judge for c in coupled]
    terms = class_taylor(job.teacher.module, judges, batches, classes=len(job.teacher.labels))
    return {c.producer: importance(terms[c.judge], auxiliary.class_weights) for c in coupled}


def _pools(job: CompressJob, few: Tensor) -> tuple[Pool, Pool | None]:
    if job.auxiliary is None:
        return Pool(images=few, chances=torch.full((len(few),), 1 / len(few))), None
    pool = to_tensor(job.auxiliary.pool.decoded(), job.teacher.input)
    return (
        Pool(images=few, chances=torch.as_tensor(job.auxiliary.few_chances)),
        Pool(images=pool, chances=torch.as_tensor(job.auxiliary.chances)),
    )
