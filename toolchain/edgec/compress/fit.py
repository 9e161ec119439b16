"""A job that keeps within its budget: under a latency, blocks and channels are traded against each other.

Both cost divergence of the outputs and save milliseconds. Where launches take the time, only fewer layers save any;
where products do, narrower ones may be cheaper. The closest relative is latency-aware pruning as a knapsack (HALP, Shen
et al. 2022); what is lost here is counted over few and OOD images, so that every class has its say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from edgec.compress.blocks import without_blocks
from edgec.compress.channels import by_cost, costs_in_order, prunable, ranked
from edgec.compress.config import PractiseConfig
from edgec.compress.coupling import Coupled
from edgec.compress.job import CompressJob
from edgec.compress.price import Limit, layers_of, narrowed, within
from edgec.compress.prune import prune
from edgec.compress.recoverability import Judged, judged_blocks, score, shares_saved
from edgec.compress.shorten import blocks_that_can_go, shortened, without
from edgec.compress.widths import even_widths, least_cost_widths, narrowest, pruning_leaves
from edgec.core.progress import Progress

__all__ = ["fitted"]


def fitted(job: CompressJob, method: str, *, progress: Progress) -> CompressJob:
    """The job with what its budget decides ahead of a method: which blocks go and, under a latency, all widths.

    Args:
        job: With the auxiliary set, where there is one.
        method: What will cut; `practise` and `learngene` choose blocks themselves.
        progress: Shown per block.

    Raises:
        ConfigError: The budget is out of reach, or more blocks are to go than can.
    """
    if not job.budget.is_of_latency or method in ("practise", "learngene"):
        return shortened(job, progress=progress)
    trade = _trade(job, progress=progress)
    plan = within(job.limit, trade.best, trade.cut)
    return replace(without(job, plan.dropped, trade.scores), widths=plan.widths)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Blocks that go, channels that stay, and what both cost the outputs, in nat."""

    dropped: tuple[str, ...]
    widths: Mapping[str, int]
    cost: float


@dataclass(frozen=True, kw_only=True)
class _Trade:
    """What plans are made from.

    Attributes:
        job: The compression.
        counts: How many blocks may go.
        scores: Of each block that can go; the lowest go first.
        judged: And what it would cost.
        coupled: The teacher's channels.
        order: By producer from those that go last to those that go first.
        costs: Of them, in this order.
    """

    job: CompressJob
    counts: Sequence[int]
    scores: Mapping[str, float]
    judged: Mapping[str, Judged]
    coupled: Sequence[Coupled]
    order: Mapping[str, Int[Tensor, "channel"]]
    costs: Mapping[str, Float[Tensor, "channel"]]

    def best(self, limit: Limit) -> _Plan:
        """The plan within a limit that costs least, over all numbers of blocks that may go."""
        plans: list[_Plan] = []
        least = limit.price.whole
        for count in self.counts:
            net, coupled = self._without(count)
            fewest = narrowest(net, coupled, self.job.rules)
            least = min(least, limit.price.of_layers(narrowed(layers_of(net), coupled, fewest)))
            if limit.allows(limit.price.of_layers(narrowed(layers_of(net), coupled, fewest))):
                plans.append(self._plan(count, limit))
            if limit.allows(limit.price.of_layers(layers_of(net))):
                break  # without a channel gone: fewer blocks would cost more
        if not plans:
            raise limit.out_of_reach(self._how(), least)
        return min(plans, key=lambda plan: plan.cost)

    def cut(self, plan: _Plan) -> nn.Module:
        """The net of a plan."""
        kept = {name: self.order[name][:width].sort().values for name, width in plan.widths.items()}
        return prune(without_blocks(self.job.teacher.module, plan.dropped), kept, self.job.example)

    def _dropped(self, count: int) -> tuple[str, ...]:
        return tuple(sorted(self.scores, key=self.scores.__getitem__)[:count])

    def _without(self, count: int) -> tuple[nn.Module, list[Coupled]]:
        net = without_blocks(self.job.teacher.module, self._dropped(count))
        left = layers_of(net)
        return net, [group for group in self.coupled if group.producer in left]

    def _plan(self, count: int, limit: Limit) -> _Plan:
        (net, coupled), rules = self._without(count), self.job.rules
        widths = even_widths(net, coupled, limit, rules=rules)
        if by_cost(self.job):
            costs = {c.producer: self.costs[c.producer] for c in coupled if c.producer in self.costs}
            widths = least_cost_widths(net, coupled, costs, limit, even=widths, rules=rules)
        dropped = self._dropped(count)
        channels = sum(float(self.costs[name][width:].sum()) for name, width in widths.items() if name in self.costs)
        cost = channels + sum(self.judged[name].divergence for name in dropped)
        return _Plan(dropped=dropped, widths=widths, cost=cost)

    def _how(self) -> str:
        most = max(self.counts)
        pruning = pruning_leaves(self.job.teacher.module, self.coupled, self.job.rules)
        return f"dropping {most} residual block{'s' * (most != 1)} and {pruning}" if most else pruning


def _trade(job: CompressJob, *, progress: Progress) -> _Trade:
    given, coupled = job.budget.drop_blocks, prunable(job)
    blocks = [] if given == 0 else blocks_that_can_go(job, at_least=given or 0)
    order = ranked(job, coupled, progress=progress)
    judged = judged_blocks(job, blocks, PractiseConfig(), progress=progress)
    _, savings = shares_saved(job, blocks)
    return _Trade(
        job=job,
        counts=range(len(blocks) + 1) if given is None else [given],
        scores={name: score(one.loss, savings[name]) for name, one in judged.items()},
        judged=judged,
        coupled=coupled,
        order=order,
        costs=costs_in_order(job, coupled, order, progress=progress),
    )
