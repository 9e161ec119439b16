"""How many channels each layer keeps within a budget: the same share of them, or by their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, lcm

from jaxtyping import Float
from torch import Tensor, nn

from edgec.compress.coupling import Coupled
from edgec.compress.price import Limit, layers_of, narrowed
from edgec.core.target import Rules

__all__ = ["even_widths", "least_cost_widths", "narrowest", "pruning_leaves"]

STEPS = 32
"""A wide layer loses this share of its channels at a time."""


def even_widths(module: nn.Module, coupled: Sequence[Coupled], limit: Limit, *, rules: Rules) -> dict[str, int]:
    """How many channels each producer keeps: the same share everywhere, the largest that keeps within the limit.

    What the budget has left goes to layers in their order, a step each, so that methods with other widths are compared
    at the same price.

    Raises:
        ConfigError: The limit cannot be reached by these channels.
    """
    left = _pricing(module, coupled, limit)
    plans = _even_plans(module, coupled, rules)
    low, high = 0, len(plans) - 1
    if not limit.allows(left(plans[0])):
        raise limit.out_of_reach(pruning_leaves(module, coupled, rules), left(plans[0]))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if limit.allows(left(plans[middle])) else (low, middle - 1)
    while not limit.allows(left(plans[low])):  # latency may fall where a layer grows by a channel
        low -= 1
    return _filled(plans[low], plans[low + 1 :], lambda plan: limit.allows(left(plan)))


def narrowest(module: nn.Module, coupled: Sequence[Coupled], rules: Rules) -> dict[str, int]:
    """The fewest channels that `even_widths` can keep."""
    return _even_plans(module, coupled, rules)[0]


def pruning_leaves(module: nn.Module, coupled: Sequence[Coupled], rules: Rules) -> str:
    """For people: what pruning does, and that it leaves at least."""
    if not coupled:
        return "a net without channels to prune leaves"
    layers = dict(module.named_modules())
    multiples = {_step(c, layers, rules) for c in coupled}
    return f"pruning inside the blocks in multiples of {_told(multiples)} channels leaves at least"


def _even_plans(module: nn.Module, coupled: Sequence[Coupled], rules: Rules) -> list[dict[str, int]]:
    """Widths by rising share."""
    layers = dict(module.named_modules())
    steps = {c.producer: _step(c, layers, rules) for c in coupled}
    options = sorted({1.0, *(i / c.channels for c in coupled for i in range(1, c.channels + 1))})
    return [{c.producer: _rounded(share, c, steps[c.producer]) for c in coupled} for share in options]


def _pricing(module: nn.Module, coupled: Sequence[Coupled], limit: Limit) -> Callable[[Mapping[str, int]], float]:
    """What a net costs when each producer keeps so many channels."""
    layers = layers_of(module)
    return lambda kept: limit.price.of_layers(narrowed(layers, coupled, kept))


def _filled(
    plan: dict[str, int], wider: list[dict[str, int]], fits: Callable[[dict[str, int]], bool]
) -> dict[str, int]:
    """A plan whose layers take their next width, one after the other, as long as the whole fits."""
    for name, now in tuple(plan.items()):
        width = next((other[name] for other in wider if other[name] > now), now)
        if fits({**plan, name: width}):
            plan = {**plan, name: width}
    return plan


def least_cost_widths(
    module: nn.Module,
    coupled: Sequence[Coupled],
    costs: Mapping[str, Float[Tensor, "channel"]],
    limit: Limit,
    *,
    even: Mapping[str, int],
    rules: Rules,
) -> dict[str, int]:
    """How many channels each producer keeps where the next to go is always the one that costs least for what it saves.

    Costs of many channels are not the sum of their costs, so no layer keeps less than half of its even width; layers
    without costs keep that. The last step may go far below the budget: what is left of it is given back, first where
    what it takes spares most.

    Args:
        module: What is cut.
        coupled: Its channels.
        costs: Of each producer's channels, from those that go last to those that go first.
        limit: What may stay.
        even: What `even_widths` gives for the same limit; of the teacher, where a part of it is cut.
        rules: Widths are multiples of what they say where the layer is wide enough.
    """
    modules = dict(module.named_modules())
    left = _pricing(module, coupled, limit)
    options = {
        c.producer: _options(c, even[c.producer], _step(c, modules, rules)) for c in coupled if c.producer in costs
    }
    plan = {c.producer: min(even[c.producer], c.channels) for c in coupled}
    plan |= {name: widths[-1] for name, widths in options.items()}

    def price(name: str, *, narrow: int, wide: int) -> float:
        """What the channels between two widths of a layer cost for what they save; infinite where that is nothing."""
        spent = left({**plan, name: wide}) - left({**plan, name: narrow})
        return float(costs[name][narrow:wide].sum()) / spent if spent > 0 else inf

    def narrower(name: str) -> list[int]:
        """The next width that saves anything: a device computes some widths as fast as wider ones."""
        fewer = reversed(options[name][: options[name].index(plan[name])])
        return next(([width] for width in fewer if left({**plan, name: width}) < left(plan)), [])

    layers = {c.producer: {*c.outputs, *c.inputs} for c in coupled}
    prices: dict[str, float] = {}
    stale = list(options)
    while not limit.allows(left(plan)):
        for name in stale:
            prices.pop(name, None)
            for width in narrower(name):
                prices[name] = price(name, narrow=width, wide=plan[name])
        if not prices:
            return {c.producer: min(even[c.producer], c.channels) for c in coupled}
        cheapest = min(prices, key=prices.__getitem__)
        for width in narrower(cheapest):
            plan[cheapest] = width
        stale = [name for name in options if layers[name] & layers[cheapest]]
    while True:
        back = {name: width for name in options for width in _wider(options[name], plan[name])}
        fitting = {name: width for name, width in back.items() if limit.allows(left({**plan, name: width}))}
        if not fitting:
            return plan
        dearest = max(fitting, key=lambda name: price(name, narrow=plan[name], wide=fitting[name]))
        plan[dearest] = fitting[dearest]


def _wider(options: list[int], width: int) -> list[int]:
    """The next width among rising options; none at their end."""
    at = options.index(width) + 1
    return options[at : at + 1]


def _step(coupled: Coupled, layers: Mapping[str, nn.Module], rules: Rules) -> int:
    """How many channels stay or go at a time: whole units, in the device's multiples."""
    filtered = any(_is_depthwise(layers[name]) for name in coupled.outputs)
    return lcm(rules.channel_multiple, (filtered and rules.depthwise_multiple) or 1, coupled.unit)


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def _told(steps: Iterable[int]) -> str:
    """For people, as in `4 or 16`."""
    return " or ".join(map(str, sorted(set(steps))))


def _options(coupled: Coupled, even: int, least_step: int) -> list[int]:
    """Widths that a layer may have, rising from half of its even width to its own."""
    step = least_step * max(1, coupled.channels // (STEPS * least_step))
    least = min(even, max(least_step, even // (2 * least_step) * least_step), coupled.channels)
    return sorted({least, *range(-(-least // step) * step, coupled.channels, step), coupled.channels})


def _rounded(share: float, coupled: Coupled, step: int) -> int:
    """A share of the channels, to the nearest multiple of a step, at least one, at most all."""
    if share == 1:
        return coupled.channels
    return min(coupled.channels, max(step, round(share * coupled.channels / step) * step))
