"""A chain of prunings: several smaller cuts, each recovered before the next (after HPM-KD's progressive chain).

HPM-KD distils through intermediate models whose number and sizes follow the gap in capacity. Here they are stages of
one pruning: each leaves the same share of what the stage before left, and has an equal part of the steps. Distillation
is from the teacher itself in every stage; FSKD and CD bring each layer back to what it was before the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from edgec.compress.job import CompressJob
from edgec.core.classifier import Classifier, Step
from edgec.learn.config import Budget

__all__ = ["in_stages"]


def in_stages(job: CompressJob, run: Callable[[CompressJob], Classifier], stages: int) -> Classifier:
    """Compresses in several cuts, `keep_flops` ** (i / stages) of the multiply-adds left after the i-th.

    Args:
        job: The whole compression.
        run: One cut and its recovery.
        stages: How many there are; never more than steps.
    """
    stages = min(stages, job.budget.steps)
    if stages == 1:
        return run(job)
    begun, facts = None, list[object]()
    *before, last = _budgets(job.budget, stages)
    for stage, budget in enumerate(before):
        part = replace(job, begun=begun, budget=budget, goal=job.budget.keep_flops, seed=job.seed + stage)
        begun = run(part)
        facts.append(dict(begun.history[-1].facts))
    student = run(replace(job, begun=begun, budget=last, seed=job.seed + len(before)))
    return student.after(student.module, Step(method="chain", facts={"before": facts}))


def _budgets(whole: Budget, stages: int) -> list[Budget]:
    """One a stage; their steps sum up to the whole's."""
    ends = [whole.steps * stage // stages for stage in range(stages + 1)]
    _, share = whole.asked
    return [
        whole.model_copy(update={"keep_flops": share ** (stage / stages), "steps": end - start})
        for stage, (start, end) in enumerate(pairwise(ends), start=1)
    ]
