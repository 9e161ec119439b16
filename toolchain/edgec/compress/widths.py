"""How many channels each layer keeps for a share of the multiply-adds: the same share of them, or by their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import lcm

from jaxtyping import Float
from torch import Tensor, nn

from edgec.compress.coupling import Coupled
from edgec.compress.flops import layer_flops
from edgec.core.errors import ConfigError
from edgec.core.target import Rules
from edgec.models.attention import Attention, inner_width

__all__ = ["even_widths", "least_cost_widths"]

STEPS = 32
"""A wide layer loses this share of its channels at a time."""


def even_widths(
    module: nn.Module, coupled: list[Coupled], example: Tensor, *, keep_flops: float, rules: Rules
) -> dict[str, int]:
    """How many channels each producer keeps: the same share everywhere, the largest that fits `keep_flops`.

    What the budget has left goes to layers in their order, a step each, so that methods with other widths are compared
    at the same multiply-adds.

    Raises:
        ConfigError: The share cannot be reached by these channels.
    """
    flops = layer_flops(module, example)
    total = sum(flops.values())
    layers = dict(module.named_modules())
    left = partial(_flops_left, flops, layers, coupled)
    steps = {c.producer: _step(c, layers, rules) for c in coupled}
    options = sorted({i / c.channels for c in coupled for i in range(1, c.channels + 1)})
    plans = [{c.producer: _rounded(share, c, steps[c.producer]) for c in coupled} for share in options]
    low, high = 0, len(options) - 1
    if left(plans[0]) > keep_flops * total:
        least = left(plans[0]) / total
        raise ConfigError(
            f"keep_flops = {keep_flops}: pruning inside the blocks in multiples of {_told(steps.values())} channels "
            f"leaves at least {least:.2f} of the multiply-adds",
            hint=f"set compress.keep_flops to {least + 0.005:.2f} or more",
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left(plans[middle]) <= keep_flops * total else (low, middle - 1)
    return _filled(plans[low], plans[low + 1 :], lambda plan: left(plan) <= keep_flops * total)


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
    coupled: list[Coupled],
    costs: Mapping[str, Float[Tensor, "channel"]],
    example: Tensor,
    *,
    even: Mapping[str, int],
    keep_flops: float,
    rules: Rules,
    whole: int | None = None,
) -> dict[str, int]:
    """How many channels each producer keeps where the next to go is always the one that costs least per multiply-add.

    Costs of many channels are not the sum of their costs, so no layer keeps less than half of its even width; layers
    without costs keep that. The last step may go far below the budget: what is left of it is given back, first where a
    multiply-add spares most.

    Args:
        module: What is cut.
        coupled: Its channels.
        costs: Of each producer's channels, from those that go last to those that go first.
        example: An input.
        even: What `even_widths` gives for the same multiply-adds; of the teacher, where a part of it is cut.
        keep_flops: Share of the multiply-adds that may stay.
        rules: Widths are multiples of what they say where the layer is wide enough.
        whole: The multiply-adds that this is a share of; those of the module where it is not given.
    """
    flops = layer_flops(module, example)
    modules = dict(module.named_modules())
    left = partial(_flops_left, flops, modules, coupled)
    limit = keep_flops * (whole or sum(flops.values()))
    options = {
        c.producer: _options(c, even[c.producer], _step(c, modules, rules)) for c in coupled if c.producer in costs
    }
    plan = {c.producer: min(even[c.producer], c.channels) for c in coupled}
    plan |= {name: widths[-1] for name, widths in options.items()}

    def price(name: str, *, narrow: int, wide: int) -> float:
        """What the channels between two widths of a layer cost, per multiply-add."""
        spent = left({**plan, name: wide}) - left({**plan, name: narrow})
        return float(costs[name][narrow:wide].sum()) / spent

    layers = {c.producer: {*c.outputs, *c.inputs} for c in coupled}
    prices: dict[str, float] = {}
    stale = list(options)
    while left(plan) > limit:
        for name in stale:
            prices.pop(name, None)
            for width in _next(options[name], plan[name], wider=False):
                prices[name] = price(name, narrow=width, wide=plan[name])
        cheapest = min(prices, key=prices.__getitem__)
        (plan[cheapest],) = _next(options[cheapest], plan[cheapest], wider=False)
        stale = [name for name in options if layers[name] & layers[cheapest]]
    while True:
        back = {name: width for name in options for width in _next(options[name], plan[name], wider=True)}
        fitting = {name: width for name, width in back.items() if left({**plan, name: width}) <= limit}
        if not fitting:
            return plan
        dearest = max(fitting, key=lambda name: price(name, narrow=plan[name], wide=fitting[name]))
        plan[dearest] = fitting[dearest]


def _next(options: list[int], width: int, *, wider: bool) -> list[int]:
    """The next width among rising options; none at their end."""
    at = options.index(width) + (1 if wider else -1)
    return options[at : at + 1] if at >= 0 else []


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


def _flops_left(
    flops: Mapping[str, int], layers: Mapping[str, nn.Module], coupled: list[Coupled], kept: Mapping[str, int]
) -> float:
    """Multiply-adds after pruning; exact, since a layer's are proportional to its inputs times its outputs."""
    outs: dict[str, float] = {}
    ins: dict[str, float] = {}
    for group in coupled:
        gone = 1 - kept[group.producer] / group.channels
        for name, count in group.outputs.items():
            outs[name] = outs.get(name, 0) + gone * count
        for name, count in group.inputs.items():
            ins[name] = ins.get(name, 0) + gone * count
    left = 0.0
    for name, count in flops.items():
        width_out, width_in = _widths(layers[name])
        left += count * (1 - outs.get(name, 0) / width_out) * (1 - ins.get(name, 0) / width_in)
    return left


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Output and input channels; attention's inner width counts as output."""
    if isinstance(layer, Attention):
        return inner_width(layer), inner_width(layer)
    outs, ins = layer.get_parameter("weight").shape[:2]
    return outs, ins
