"""MiR, mimicking then replacing (Wang et al. 2022, arXiv 2201.02620).

Channels inside each block are pruned; then the whole net mimics the teacher's features before global pooling,
under the teacher's head.
"""

from __future__ import annotations

from edgec.compress.channels import slim
from edgec.compress.config import MirConfig
from edgec.compress.job import CompressJob, methods
from edgec.compress.recovery import finished, recover
from edgec.core.classifier import Classifier, Step
from edgec.core.progress import Progress

__all__ = ["compress"]


@methods.register("mir", MirConfig)
def compress(job: CompressJob, config: MirConfig, *, progress: Progress) -> Classifier:
    """Prunes by the L1 norm of filters, then recovers; OE-FSMC brings class-aware importance and OOD images."""
    student, cut = slim(job, progress=progress)
    student = recover(student, job, config, progress=progress)
    facts = {"kept_channels": cut.widths, "steps": job.budget.steps}
    return finished(student, job, Step(method="mir", facts=facts))
