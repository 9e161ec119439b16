"""Recovery of a pruned student: distillation on the few samples, and on OOD images where there are some."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.core.classifier import Classifier, Step
from edgec.core.progress import Progress
from edgec.learn.batches import Pool
from edgec.learn.config import DistillConfig
from edgec.learn.distill import distill_together
from edgec.learn.inputs import streamed
from edgec.learn.losses import class_groups

__all__ = ["finished", "recover", "recover_together"]


def recover(student: nn.Module, job: CompressJob, config: DistillConfig, *, progress: Progress) -> nn.Module:
    """A copy of the student that mimics the teacher, on both kinds of image where there is an auxiliary set (eq. 7).

    Args:
        student: Pruned, with the teacher's feature size.
        job: The compression.
        config: The method's own way, which an auxiliary set's joint recovery replaces.
        progress: Shown per step.
    """
    return recover_together((student,), job, config, progress=progress)[0]


def recover_together(
    students: Sequence[nn.Module],
    job: CompressJob,
    config: DistillConfig,
    *,
    rate_share: float = 1.0,
    progress: Progress,
) -> tuple[nn.Module, ...]:
    """As `recover`, with several students that share parameters and take turns, at a share of the learning rate."""
    auxiliary = job.auxiliary
    if auxiliary is None:
        few = streamed(job.few, job.teacher.input)
        pools = (Pool(images=few, chances=torch.full((len(few),), 1 / len(few))), None)
    else:
        config = auxiliary.recovery or config
        near, ood = (streamed(part, job.teacher.input) for part in (auxiliary.near, auxiliary.pool))
        pools = (
            Pool(images=near, chances=torch.as_tensor(auxiliary.near_chances)),
            Pool(images=ood, chances=torch.as_tensor(auxiliary.chances)),
        )
    return distill_together(
        students,
        job.teacher.module,
        pools,
        config.model_copy(update={"learning_rate": rate_share * config.learning_rate}),
        budget=job.budget,
        fabric=job.fabric,
        generator=torch.Generator().manual_seed(job.seed),
        progress=progress,
        groups=class_groups(job.trained_on, config.groups),
        view=job.view,
        teachers=job.teachers,
    )


def finished(student: nn.Module, job: CompressJob, step: Step) -> Classifier:
    """The compressed classifier, with what stayed of the teacher beside the step's own facts."""
    share = total_flops(student, job.example) / total_flops(job.teacher.module, job.example)
    kept = {"kept_flops": round(share, 4)}
    if job.latency is not None:
        kept |= {"latency_ms": job.latency.of_net(student), "teacher_latency_ms": job.latency.whole}
    return job.whole.after(student, Step(method=step.method, facts={**kept, **step.facts}))
