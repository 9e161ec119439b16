"""Fewer blocks before fewer channels: as many residual blocks as the budget names go whole, chosen as in PRACTISE."""

from __future__ import annotations

from dataclasses import replace

from edgec.compress.blocks import Block, residual_blocks, without_blocks
from edgec.compress.config import PractiseConfig
from edgec.compress.job import CompressJob
from edgec.compress.recoverability import recoverabilities, shares_saved
from edgec.core.classifier import Step
from edgec.core.errors import ConfigError
from edgec.core.progress import Progress
from edgec.models.infer import to_tensor

__all__ = ["shortened"]


def shortened(job: CompressJob, *, progress: Progress) -> CompressJob:
    """The job with some blocks of the teacher gone, so that a method cuts what is left; without an order, as it is.

    Those go whose recoverability over what they save is the least, each judged alone (`recoverability`).

    Raises:
        ConfigError: More are to go than can.
    """
    count = job.budget.drop_blocks
    if not count:
        return job
    blocks = residual_blocks(job.teacher.module, to_tensor(job.few.decoded()[:2], job.teacher.input))
    if count > len(blocks):
        raise _too_few(count, blocks)
    losses = recoverabilities(job, blocks, PractiseConfig(), progress=progress)
    _, savings = shares_saved(job, blocks)
    scores = {name: loss / savings[name] for name, loss in losses.items()}
    chosen = set(sorted(scores, key=scores.__getitem__)[:count])
    dropped = [block.name for block in blocks if block.name in chosen]
    facts = {"dropped_blocks": dropped, "scores": {name: round(score, 4) for name, score in scores.items()}}
    base = job.teacher.after(without_blocks(job.teacher.module, dropped), Step(method="blocks", facts=facts))
    return replace(job, base=base)


def _too_few(count: int, blocks: list[Block]) -> ConfigError:
    if not blocks:
        return ConfigError(
            f"drop_blocks = {count}: the model has no residual blocks that can go",
            hint="leave compress.drop_blocks out: channels are pruned without it",
        )
    return ConfigError(
        f"drop_blocks = {count}: the model has {len(blocks)} residual blocks that can go",
        hint=f"set compress.drop_blocks to {len(blocks)} or less",
    )
