"""A chain of prunings: several smaller cuts, each recovered before the next (after HPM-KD's progressive chain).

HPM-KD distils through intermediate models whose number and sizes follow the gap in capacity. Here they are stages of
one pruning: each leaves the same share of what the stage before left, has an equal part of the steps, and learns from
the teacher itself. Learning from the stage before was no better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from edgec.compress.config import Stages
from edgec.compress.job import CompressJob
from edgec.core.classifier import Classifier, Step
from edgec.learn.config import Budget

__all__ = ["in_stages", "number_of_stages"]

ONE_CUT = 0.4
"""Share of the multiply-adds from which on one cut is enough."""


def number_of_stages(stages: Stages, *, keep_flops: float) -> int:
    """How many cuts there are."""
    if stages == "auto":
        return 1 if keep_flops >= ONE_CUT else 2
    return stages


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
    *before, last = _budgets(job.budget, stages)
    begun = None
    for budget in before:
        begun = run(replace(job, begun=begun, budget=budget))
    student = run(replace(job, begun=begun, budget=last))
    facts = {"keep_flops": [round(budget.keep_flops, 4) for budget in (*before, last)], "steps": job.budget.steps}
    return student.after(student.module, Step(method="chain", facts=facts))


def _budgets(whole: Budget, stages: int) -> list[Budget]:
    """One a stage; their steps sum up to the whole's."""
    ends = [whole.steps * stage // stages for stage in range(stages + 1)]
    return [
        whole.model_copy(update={"keep_flops": whole.keep_flops ** (stage / stages), "steps": end - start})
        for stage, (start, end) in enumerate(pairwise(ends), start=1)
    ]
