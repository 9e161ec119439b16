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
    scores = _l1_norms(teacher, coupled) | _class_aware(job, coupled)
    kept = {c.producer: _best(scores[c.producer], widths[c.producer], unit=c.unit) for c in coupled}
    return Cut(coupled=tuple(coupled), kept=kept)


def _best(scores: Float[Tensor, "channel"], width: int, *, unit: int) -> Int[Tensor, "kept"]:
    """Indices of the channels with the best sums over their units, rising."""
    units = scores.unflatten(0, (-1, unit)).sum(1).topk(width // unit).indices.sort().values
    return (units[:, None] * unit + torch.arange(unit, device=units.device)).flatten()


def _example(job: CompressJob) -> Tensor:
    return to_tensor(job.few.decoded()[:1], job.teacher.input)


def _l1_norms(module: nn.Module, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    """Of filters; of heads, channel by channel, of what makes queries, keys and values."""
    norms: dict[str, Tensor] = {}
    for c in coupled:
        layer = module.get_submodule(c.producer)
        packed = isinstance(layer, nn.MultiheadAttention)
        weight = layer.get_parameter("in_proj_weight" if packed else "weight").detach()
        norms[c.producer] = weight.abs().flatten(1).sum(1).unflatten(0, (-1, c.channels)).sum(0)
    return norms


def _class_aware(job: CompressJob, coupled: list[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    """Eq. 5 over the few samples and the auxiliary set with its assigned labels; nothing without class weights.

    Nor anything for heads, whose outputs no layer gives.
    """
    auxiliary = job.auxiliary
    if auxiliary is None or auxiliary.class_weights is None:
        return {}
    images = torch.cat(
        [to_tensor(part.decoded(), job.teacher.input) for part in (job.few, auxiliary.labelled)],
    )
    labels = torch.cat([torch.as_tensor(job.few.labels), torch.as_tensor(auxiliary.labels)])
    batches = list(zip(images.split(128), labels.split(128), strict=True))
    judges = {c.producer: c.judge for c in coupled if c.judge is not None}
    terms = class_taylor(job.teacher.module, list(judges.values()), batches, classes=len(job.teacher.labels))
    return {name: importance(terms[judge], auxiliary.class_weights) for name, judge in judges.items()}
