"""What a budget counts: multiply-adds, or whatever else follows from how many channels each layer has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from torch import Tensor, nn

from edgec.compress.coupling import Coupled
from edgec.compress.flops import layer_flops, total_flops
from edgec.core.errors import ConfigError
from edgec.learn.config import Budget
from edgec.models.attention import Attention, inner_width

__all__ = ["Layers", "Limit", "MultiplyAdds", "Price", "kept_flops", "layers_of", "limit_of", "narrowed", "within"]

PlanT = TypeVar("PlanT")
ROUNDS = 4
"""Plans that are made for one limit, each tighter than the last by what that one missed it by."""
Layers = Mapping[str, tuple[float, float]]
"""Output and input channels of every layer that multiplies, by its name; a layer that is not there has gone."""


class Price(Protocol):
    """Something that a net costs, which falls as its layers lose channels."""

    @property
    def whole(self) -> float:
        """What the teacher costs."""
        ...

    def of_layers(self, layers: Layers) -> float:
        """What the teacher would cost with these layers."""
        ...

    def of_net(self, module: nn.Module) -> float:
        """What a net of the teacher's kind costs, measured on the net itself."""
        ...

    def told(self, amount: float) -> str:
        """For people, with the unit."""
        ...


class MultiplyAdds:
    """Of one image; exact, since a layer's are proportional to its inputs times its outputs."""

    def __init__(self, teacher: nn.Module, example: Tensor) -> None:
        self._example = example
        self._flops = layer_flops(teacher, example)
        self._whole = layers_of(teacher)

    @property
    def whole(self) -> float:
        """Of the teacher."""
        return sum(self._flops.values())

    def of_layers(self, layers: Layers) -> float:
        """Of the layers that are left."""
        left = 0.0
        for name, count in self._flops.items():
            if name in layers:
                (outputs, inputs), (all_outputs, all_inputs) = layers[name], self._whole[name]
                left += count * outputs * inputs / (all_outputs * all_inputs)
        return left

    def of_net(self, module: nn.Module) -> float:
        """Of all its layers."""
        return total_flops(module, self._example)

    def told(self, amount: float) -> str:
        """As a share."""
        return f"{amount / self.whole:.2f} of the multiply-adds"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much of a price may stay.

    Attributes:
        price: What is counted.
        amount: Nets may cost so much.
        setting: What asked for it, by its name in `[compress]`.
        value: And its value.
        stretch: How many times more nets cost than their layers made believe; plans keep as far below the amount.
    """

    price: Price
    amount: float
    setting: str
    value: float
    stretch: float = 1.0

    def allows(self, planned: float) -> bool:
        """Whether a plan of layers that costs so much keeps within it."""
        return planned * self.stretch <= self.amount

    def out_of_reach(self, how: str, planned: float) -> ConfigError:
        """The error where what can be done leaves more than may stay.

        Args:
            how: What is done, and that it leaves, as in `dropping every block leaves`.
            planned: How much that leaves of the layers.
        """
        least = planned * self.stretch
        enough = (
            f"{1.01 * least:.3g}" if self.setting == "max_latency_ms" else f"{least / self.price.whole + 0.005:.2f}"
        )
        return ConfigError(
            f"{self.setting} = {self.value:g}: {how} {self.price.told(least)}",
            hint=f"set compress.{self.setting} to {enough} or more",
        )


def limit_of(budget: Budget, price: Price) -> Limit:
    """What a budget lets stay of what a price counts."""
    setting, value = budget.asked
    amount = value if setting == "max_latency_ms" else value * price.whole
    return Limit(price=price, amount=amount, setting=setting, value=value)


def within(limit: Limit, plan: Callable[[Limit], PlanT], cut: Callable[[PlanT], nn.Module]) -> PlanT:
    """A plan whose net keeps within a limit, also where its layers alone made believe that it costs less.

    Args:
        limit: What may stay.
        plan: Makes one for a limit.
        cut: Makes the net of one.

    Raises:
        ConfigError: From `plan`, where the limit is out of reach; or it was missed in every round.
    """
    aim, cost = limit, limit.price.whole
    for _ in range(ROUNDS):
        made = plan(aim)
        cost = limit.price.of_net(cut(made))
        if cost <= limit.amount * (1 + 1e-9):  # sums in another order
            return made
        aim = replace(aim, stretch=aim.stretch * cost / limit.amount)
    raise limit.out_of_reach(f"{ROUNDS} plans that were tried left at least", cost / limit.stretch)


def kept_flops(teacher: nn.Module, example: Tensor, share: float) -> Limit:
    """A share of the multiply-adds of a net."""
    return limit_of(Budget(keep_flops=share), MultiplyAdds(teacher, example))


def layers_of(module: nn.Module) -> dict[str, tuple[float, float]]:
    """The layers of a net."""
    counted = nn.Conv2d | nn.Linear | Attention
    return {name: _widths(layer) for name, layer in module.named_modules() if isinstance(layer, counted)}


def narrowed(layers: Layers, coupled: Sequence[Coupled], kept: Mapping[str, int]) -> Layers:
    """What is left of layers when each producer keeps so many of the channels that are coupled with its own."""
    left = dict(layers)
    for group in coupled:
        gone = group.channels - kept[group.producer]
        for name, count in group.outputs.items() if gone else ():
            if name in left:
                outputs, inputs = left[name]
                left[name] = outputs - gone * count / group.channels, inputs
        for name, count in group.inputs.items() if gone else ():
            if name in left:
                outputs, inputs = left[name]
                left[name] = outputs, inputs - gone * count / group.channels
    return left


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Output and input channels; attention's inner width counts as output."""
    if isinstance(layer, Attention):
        return inner_width(layer), inner_width(layer)
    outs, ins = layer.get_parameter("weight").shape[:2]
    return outs, ins
