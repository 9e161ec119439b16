"""PRACTISE, practical network acceleration with tiny sets (Wang and Wu 2023, arXiv 2202.07861).

Whole residual blocks are dropped, those first whose loss is the easiest to make up for and that save the most; then
the whole net mimics the teacher's features, as in MiR.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgec.compress.blocks import residual_blocks, without_blocks
from edgec.compress.config import PractiseConfig
from edgec.compress.job import CompressJob, methods
from edgec.compress.price import Limit, within
from edgec.compress.recoverability import finite, recoverabilities, score, shares_saved
from edgec.compress.recovery import finished, recover
from edgec.core.classifier import Classifier, Step
from edgec.core.errors import UnsupportedError
from edgec.core.progress import Progress
from edgec.models.infer import to_tensor

__all__ = ["blocks_to_drop", "compress"]


@methods.register("practise", PractiseConfig)
def compress(job: CompressJob, config: PractiseConfig, *, progress: Progress) -> Classifier:
    """Drops blocks by their scores, then recovers; OE-FSMC brings OOD images to both, weighed by eq. 7.

    The score is recoverability / latency reduction. For the latter stands the share of the budget's price that goes
    with the block, multiply-adds or predicted latency: a measured one would make the student depend on the machine and
    its load.

    Raises:
        UnsupportedError: The model has no residual blocks that can be dropped.
        ConfigError: Dropping them all leaves too much.
    """
    blocks = residual_blocks(job.cut, to_tensor(job.few.first(2), job.teacher.input))
    if not blocks and job.begun is None:
        raise UnsupportedError(
            "method 'practise' drops residual blocks, and the model has none",
            hint="use compress.method = 'cd', 'fskd' or 'mir'",
        )
    left, savings = shares_saved(job, blocks)
    _require_enough(left, savings, job.final_limit)
    losses = recoverabilities(job, blocks, config, progress=progress)
    scores = {name: score(loss, savings[name]) for name, loss in losses.items()}

    def choose(limit: Limit) -> list[str]:
        _require_enough(left, savings, limit)
        return blocks_to_drop(scores, savings, keep=limit.amount / limit.stretch / job.price.whole, left=left)

    dropped = within(job.limit, choose, lambda names: without_blocks(job.cut, names))
    student = recover(without_blocks(job.cut, dropped), job, config, progress=progress)
    before = job.begun or job.base
    earlier = before.history[-1].facts["dropped_blocks"] if before else []
    facts = {
        "dropped_blocks": [*earlier, *sorted(dropped, key=list(savings).index)],
        "scores": finite(scores),
        "steps": job.budget.steps,
    }
    return finished(student, job, Step(method="practise", facts=facts))


def _require_enough(left: float, savings: Mapping[str, float], limit: Limit) -> None:
    least = (left - sum(savings.values())) * limit.price.whole
    if not limit.allows(least):
        raise limit.out_of_reach("dropping every residual block that can go leaves", least)


def blocks_to_drop(
    scores: Mapping[str, float], savings: Mapping[str, float], *, keep: float, left: float = 1.0
) -> list[str]:
    """Blocks by rising score until the budget is met; then those are put back that the budget has room for after all.

    Whole blocks seldom meet the budget exactly: what is left is less.

    Args:
        scores: Of each block that can go.
        savings: Share of the price that each saves; together they are enough.
        keep: Share of the price that may stay.
        left: Share of it that there is before.
    """
    dropped: list[str] = []
    for name in sorted(scores, key=scores.__getitem__):
        if left <= keep:
            break
        dropped.append(name)
        left -= savings[name]
    for name in reversed(dropped.copy()):
        if left + savings[name] <= keep:
            dropped.remove(name)
            left += savings[name]
    return dropped
