"""Channel pruning to a budget: the same share of channels inside every block goes, the least important first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgec.compress.coupling import Coupled, coupled_channels
from edgec.compress.importance import class_taylor, divergence_costs, importance
from edgec.compress.job import CompressJob, weighed
from edgec.compress.price import layers_of
from edgec.compress.prune import prune
from edgec.compress.subset import balanced_positions
from edgec.compress.widths import even_widths, least_cost_widths
from edgec.core.progress import Progress, Silent
from edgec.learn.inputs import Inputs, streamed
from edgec.models.attention import Attention
from edgec.models.infer import placed
from edgec.models.taps import find_tap

__all__ = ["Cut", "by_cost", "channels_to_keep", "costs_in_order", "prunable", "ranked", "slim"]

MOST_IMAGES = 128
MOST_PIXELS = 2**18
"""At a time, where activations are kept for gradients."""


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


def slim(job: CompressJob, *, progress: Progress | None = None) -> tuple[nn.Module, Cut]:
    """A pruned copy of what is cut, not recovered yet, and which channels stay."""
    cut = channels_to_keep(job, progress=progress)
    return prune(job.cut, cut.kept, job.example), cut


def channels_to_keep(job: CompressJob, *, progress: Progress | None = None) -> Cut:
    """Ranks the channels inside blocks and keeps the best, as many as the budget lets.

    Channels are ranked by the L1 norm of their filters (Li et al. 2017), or by class-aware Taylor terms (OE-FSMC
    eq. 5) where the auxiliary set brings class weights. Every layer keeps the same share of them, or, where the
    auxiliary set asks for it, what costs the outputs least for what is saved, class by class.
    """
    even, coupled = _even_widths(job)
    order = ranked(job, coupled, progress=progress)
    if job.widths is not None:
        widths = job.widths
    elif by_cost(job):
        costs = costs_in_order(job, coupled, order, progress=progress)
        widths = least_cost_widths(job.cut, coupled, costs, job.limit, even=even, rules=job.rules)
    else:
        widths = {c.producer: min(even[c.producer], c.channels) for c in coupled}
    kept = {name: channels[: widths[name]].sort().values for name, channels in order.items()}
    return Cut(coupled=tuple(coupled), kept=kept)


def by_cost(job: CompressJob) -> bool:
    """Whether layers are traded against each other, or keep the same share of their channels."""
    return job.auxiliary is not None and job.auxiliary.widths == "by-cost"


def ranked(
    job: CompressJob, coupled: Sequence[Coupled], *, progress: Progress | None = None
) -> dict[str, Int[Tensor, "channel"]]:
    """By producer the indices of its channels, from those that go last to those that go first."""
    scores = _l1_norms(job.cut, coupled) | _class_aware(job, coupled, progress)
    return {c.producer: _order(scores[c.producer], unit=c.unit) for c in coupled}


def prunable(job: CompressJob) -> list[Coupled]:
    """The channels of the net that is cut at first."""
    coupled = _coupled(job.teacher.module, job.example)
    return [c for c in coupled if job.base is None or c.producer in layers_of(job.base.module)]


def _coupled(net: nn.Module, example: Tensor) -> list[Coupled]:
    return coupled_channels(net, find_tap(net, example).head, example)


def _even_widths(job: CompressJob) -> tuple[Mapping[str, int], list[Coupled]]:
    """Those of the whole net, cut at once: a stage must not starve a layer that one before has narrowed. And of what.

    A convolution of which one group is left is no producer of its own: the teacher's was not.
    """
    coupled = prunable(job)
    even = partial(even_widths, job.whole.module, coupled, rules=job.rules)
    if job.goal is not None:  # out of reach, it is said before the work
        even(job.final_limit)
    left = coupled if job.begun is None else _coupled(job.cut, job.example)
    widths = even(job.limit) if job.widths is None else job.widths
    return widths, [part for part in left if part.producer in widths]


def _order(scores: Float[Tensor, "channel"], *, unit: int) -> Int[Tensor, "channel"]:
    """Indices of the channels by falling sums over their units, those of a unit side by side."""
    units = scores.unflatten(0, (-1, unit)).sum(1).argsort(descending=True)
    return (units[:, None] * unit + torch.arange(unit, device=units.device)).flatten()


def _l1_norms(module: nn.Module, coupled: Sequence[Coupled]) -> dict[str, Float[Tensor, "channel"]]:
    """Of filters; of heads, channel by channel, of what makes queries, keys and values."""
    norms: dict[str, Tensor] = {}
    for c in coupled:
        layer = module.get_submodule(c.producer)
        packed = isinstance(layer, Attention)
        weight = layer.get_parameter("in_proj_weight" if packed else "weight").detach()
        norms[c.producer] = weight.abs().flatten(1).sum(1).unflatten(0, (-1, c.channels)).sum(0)
    return norms


def _class_aware(
    job: CompressJob, coupled: Sequence[Coupled], progress: Progress | None
) -> dict[str, Float[Tensor, "channel"]]:
    """Eq. 5 over the few samples and the auxiliary set with its assigned labels; nothing without class weights.

    Nor anything for heads, whose outputs no layer gives.
    """
    auxiliary = job.auxiliary
    if auxiliary is None or auxiliary.class_weights is None:
        return {}
    pairs = ((job.few, job.few.labels), (auxiliary.labelled, auxiliary.labels))
    chosen = [balanced_positions(labels, job.budget.judged_images, seed=job.seed) for _, labels in pairs]
    few, ood = (images.choose(kept) for (images, _), kept in zip(pairs, chosen, strict=True))
    labels = np.concatenate([labels[kept] for (_, labels), kept in zip(pairs, chosen, strict=True)])
    images, judges = streamed(few.joined(ood), job.teacher.input), _judges(coupled)
    batches = _Batches(images=images, values=job.fabric.to_device(torch.as_tensor(labels)), progress=progress)
    with placed(job.cut, job.fabric.device) as net:
        terms = class_taylor(net, list(judges.values()), batches, classes=len(job.teacher.labels))
    return {name: importance(terms[judge], auxiliary.class_weights).cpu() for name, judge in judges.items()}


def costs_in_order(
    job: CompressJob,
    coupled: Sequence[Coupled],
    order: Mapping[str, Int[Tensor, "channel"]],
    *,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "channel"]]:
    """What dropping a channel costs the outputs, over few samples and pool, each as a whole weighing the same."""
    seen, judges = weighed(job, joint=0.5), _judges(coupled)
    batches = _Batches(images=seen.images, values=seen.shares, progress=progress)
    generator = torch.Generator(job.fabric.device).manual_seed(job.seed)
    with placed(job.cut, job.fabric.device) as net:
        costs = divergence_costs(net, list(judges.values()), batches, generator=generator)
    return {name: costs[judge].cpu()[order[name]] for name, judge in judges.items()}


@dataclass(frozen=True, kw_only=True)
class _Batches:
    """Images with a value each, as many at a time as the memory of a small machine lets; made anew each time."""

    images: Inputs
    values: Tensor
    progress: Progress | None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, min(MOST_IMAGES, MOST_PIXELS // self.images[:1][0, 0].numel()))
        batches = zip(self.images.split(size), self.values.split(size), strict=True)
        total = math.ceil(len(self.images) / size)
        for images, values in (self.progress or Silent()).track(batches, total=total, what="judging channels"):
            yield images.to(values.device), values


def _judges(coupled: Sequence[Coupled]) -> dict[str, str]:
    return {c.producer: c.judge for c in coupled if c.judge is not None}
