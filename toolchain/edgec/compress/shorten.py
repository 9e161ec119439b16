"""Fewer blocks before fewer channels: as many residual blocks as the budget names go whole, chosen as in PRACTISE."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from edgec.compress.blocks import Block, residual_blocks, without_blocks
from edgec.compress.config import PractiseConfig
from edgec.compress.job import CompressJob
from edgec.compress.recoverability import finite, recoverabilities, score, shares_saved
from edgec.core.classifier import Step
from edgec.core.errors import ConfigError
from edgec.core.progress import Progress
from edgec.models.infer import to_tensor

__all__ = ["blocks_that_can_go", "shortened", "without"]


def shortened(job: CompressJob, *, progress: Progress) -> CompressJob:
    """The job with some blocks of the teacher gone, so that a method cuts what is left; without an order, as it is.

    Those go whose recoverability over what they save is the least, each judged alone (`recoverability`).

    Raises:
        ConfigError: More are to go than can.
    """
    count = job.budget.drop_blocks
    if not count:
        return job
    blocks = blocks_that_can_go(job, at_least=count)
    losses = recoverabilities(job, blocks, PractiseConfig(), progress=progress)
    _, savings = shares_saved(job, blocks)
    scores = {name: score(loss, savings[name]) for name, loss in losses.items()}
    return without(job, sorted(scores, key=scores.__getitem__)[:count], scores)


def blocks_that_can_go(job: CompressJob, *, at_least: int) -> list[Block]:
    """The teacher's residual blocks.

    Raises:
        ConfigError: There are fewer than that.
    """
    blocks = residual_blocks(job.teacher.module, to_tensor(job.few.first(2), job.teacher.input))
    if at_least > len(blocks):
        raise _too_few(at_least, blocks)
    return blocks


def without(job: CompressJob, blocks: Collection[str], scores: Mapping[str, float]) -> CompressJob:
    """The job with these blocks gone, in the order of the net, and the scores that chose them among its facts."""
    dropped = [name for name in scores if name in blocks]
    facts = {"dropped_blocks": dropped, "scores": finite(scores)}
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
