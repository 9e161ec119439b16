"""Channel pruning to a budget: the same share of channels inside every block goes, the least important first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgec.compress.importance import class_taylor, importance
from edgec.compress.job import CompressJob
from edgec.compress.prune import Coupled, coupled_channels, kept_channels, prune
from edgec.models.infer import to_tensor
from edgec.models.taps import find_tap

__all__ = ["Cut", "channels_to_keep", "slim"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which channels stay.

    Attributes:
        coupled: Channels that can be pruned, one entry per producer, in the order in which they run.
        kept: Producer name to the indices of the channels that stay, rising.
    """

    coupled: tuple[Coupled, ...]
    kept: Mapping[str, Int[Tensor, "kept"]]

    @property
    def widths(self) -> dict[str, int]:
        """Producer name to how many channels stay."""
        return {name: len(indices) for name, indices in self.kept.items()}


def slim(job: CompressJob) -> tuple[nn.Module, Cut]:
    """A pruned copy of the teacher, not recovered yet, and what was cut."""
    cut = channels_to_keep(job)
    return prune(job.teacher.module, cut.kept, _example(job)), cut


def channels_to_keep(job: CompressJob) -> Cut:
    """Ranks the channels inside blocks and keeps the best, as many as the budget lets.

    Channels are ranked by the L1 norm of their filters (Li et al. 2017), or by class-aware Taylor terms (OE-FSMC
    eq. 5) where the auxiliary set brings class weights.
    """
    teacher, example = job.teacher.module, _example(job)
    coupled = coupled_channels(teacher, find_tap(teacher, example).head, example)
    widths = kept_channels(
        teacher, coupled, example, keep_flops=job.budget.keep_flops, channel_multiple=job.channel_multiple
    )
    scores = _class_aware(job, coupled) or _l1_norms(teacher, coupled)
    kept = {name: scores[name].topk(width).indices.sort().values for name, width in widths.items()}
    return Cut(coupled=tuple(coupled), kept=kept)


def _example(job: CompressJob) -> Tensor:
    return to_tensor(job.few.decoded()[:1], job.teacher.input)


def _l1_norms(module: nn.Module, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    return {
        c.producer: module.get_submodule(c.producer).get_parameter("weight").detach().abs().flatten(1).sum(1)
        for c in coupled
    }


def _class_aware(job: CompressJob, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    """Eq. 5 over the few samples and the auxiliary set with its assigned labels; nothing without class weights."""
    auxiliary = job.auxiliary
    if auxiliary is None or auxiliary.class_weights is None:
        return {}
    images = torch.cat(
        [to_tensor(part.decoded(), job.teacher.input) for part in (job.few, auxiliary.labelled)],
    )
    labels = torch.cat([torch.as_tensor(job.few.labels), torch.as_tensor(auxiliary.labels)])
    batches = list(zip(images.split(128), labels.split(128), strict=True))
    judges = [c.judge for c in coupled]
    terms = class_taylor(job.teacher.module, judges, batches, classes=len(job.teacher.labels))
    return {c.producer: importance(terms[c.judge], auxiliary.class_weights) for c in coupled}
