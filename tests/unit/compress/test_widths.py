"""How many channels each layer keeps by what they cost, against a slow search and real pruning."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from edgec.compress.coupling import Coupled, coupled_channels
from edgec.compress.flops import total_flops
from edgec.compress.importance import divergence_costs
from edgec.compress.price import kept_flops
from edgec.compress.prune import prune
from edgec.compress.widths import even_widths, least_cost_widths
from edgec.core.errors import ConfigError
from edgec.core.target import Rules
from edgec.models.cifar_resnet import resnet20

IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return resnet20(classes=4).eval()


@pytest.fixture(scope="module")
def coupled(net: nn.Module) -> list[Coupled]:
    return coupled_channels(net, "linear", IMAGE)


def drawn_costs(coupled: list[Coupled], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {c.producer: torch.rand(c.channels, generator=generator).sort(descending=True).values for c in coupled}


def kept_share(net: nn.Module, widths: Mapping[str, int]) -> float:
    pruned = prune(net, {name: torch.arange(width) for name, width in widths.items()}, IMAGE)
    return total_flops(pruned, IMAGE) / total_flops(net, IMAGE)


def slowly(net: nn.Module, costs: dict[str, Tensor], even: dict[str, int], *, keep_flops: float) -> dict[str, int]:
    """One step after the other, the cheapest per multiply-add, by pruning for real each time; the rest given back."""
    plan = {name: len(cost) for name, cost in costs.items()}
    steps = {name: 2 if len(cost) == 64 else 1 for name, cost in costs.items()}

    def price(name: str, narrow: int, wide: int) -> float:
        saved = kept_share(net, {**plan, name: wide}) - kept_share(net, {**plan, name: narrow})
        return float(costs[name][narrow:wide].sum()) / saved

    while kept_share(net, plan) > keep_flops:
        fewer = {name: width - steps[name] for name, width in plan.items()}
        open_to = [name for name, width in fewer.items() if width >= max(1, even[name] // 2)]
        name = min(open_to, key=lambda name: price(name, fewer[name], plan[name]))
        plan[name] = fewer[name]
    while True:
        more = {name: width + steps[name] for name, width in plan.items() if width < len(costs[name])}
        fitting = [name for name, width in more.items() if kept_share(net, {**plan, name: width}) <= keep_flops]
        if not fitting:
            return plan
        name = max(fitting, key=lambda name: price(name, plan[name], more[name]))
        plan[name] = more[name]


def test_the_next_to_go_is_always_the_cheapest_per_multiply_add() -> None:
    layers = [nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    coupled = coupled_channels(net, "7", IMAGE)
    costs = drawn_costs(coupled, 0)
    limit, rules = kept_flops(net, IMAGE, 0.6), Rules()
    even = even_widths(net, coupled, limit, rules=rules)
    widths = least_cost_widths(net, coupled, costs, limit, even=even, rules=rules)
    assert widths == slowly(net, costs, even, keep_flops=0.6)
    assert widths != even


@pytest.mark.parametrize("multiple", [1, 4, 8])
@pytest.mark.parametrize("keep_flops", [0.4, 0.6, 0.9])
def test_widths_fit_are_multiples_and_no_layer_falls_below_half_of_its_even_width(
    net: nn.Module, coupled: list[Coupled], multiple: int, keep_flops: float
) -> None:
    limit, rules = kept_flops(net, IMAGE, keep_flops), Rules(channel_multiple=multiple)
    even = even_widths(net, coupled, limit, rules=rules)
    widths = least_cost_widths(net, coupled, drawn_costs(coupled, multiple), limit, even=even, rules=rules)
    assert kept_share(net, widths) <= keep_flops
    for c in coupled:
        width = widths[c.producer]
        assert width == c.channels or width % multiple == 0
        assert width >= min(even[c.producer], max(multiple, even[c.producer] // 2 // multiple * multiple))


@pytest.mark.parametrize("seed", range(4))
def test_no_layer_could_have_more_channels_within_the_budget(net: nn.Module, coupled: list[Coupled], seed: int) -> None:
    limit, rules = kept_flops(net, IMAGE, 0.5), Rules(channel_multiple=8)
    even = even_widths(net, coupled, limit, rules=rules)
    widths = least_cost_widths(net, coupled, drawn_costs(coupled, seed), limit, even=even, rules=rules)
    for c in coupled:
        if widths[c.producer] < c.channels:
            assert kept_share(net, {**widths, c.producer: widths[c.producer] + 8}) > 0.5


def test_layers_whose_channels_cost_nothing_go_first(net: nn.Module, coupled: list[Coupled]) -> None:
    costs = drawn_costs(coupled, 0)
    free = [name for name in costs if name.startswith("layer1")]
    costs |= {name: torch.zeros_like(costs[name]) for name in free}
    limit, rules = kept_flops(net, IMAGE, 0.85), Rules()
    even = even_widths(net, coupled, limit, rules=rules)
    widths = least_cost_widths(net, coupled, costs, limit, even=even, rules=rules)
    assert all(widths[c.producer] < c.channels for c in coupled if c.producer in free)
    assert all(widths[c.producer] == c.channels for c in coupled if c.producer not in free)


def test_layers_without_a_cost_keep_their_even_width(net: nn.Module, coupled: list[Coupled]) -> None:
    costs = drawn_costs(coupled, 0)
    del costs["layer2.1.conv1"]
    limit, rules = kept_flops(net, IMAGE, 0.5), Rules()
    even = even_widths(net, coupled, limit, rules=rules)
    widths = least_cost_widths(net, coupled, costs, limit, even=even, rules=rules)
    assert widths["layer2.1.conv1"] == even["layer2.1.conv1"]
    assert kept_share(net, widths) <= 0.5


class TestDivergenceCosts:
    """Fisher information against what really happens to the outputs."""

    @pytest.fixture
    def small(self) -> nn.Module:
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 5))
        with torch.no_grad():
            net[1].weight.uniform_(0.3, 3)
            net[3].weight.mul_(0.4)
        return net.eval()

    def test_they_foretell_the_divergence(self, small: nn.Module) -> None:
        images = torch.rand(800, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        shares = torch.full((800,), 1 / 800)
        costs = divergence_costs(small, ["1"], [(images, shares)], generator=torch.Generator().manual_seed(0))["1"]
        with torch.no_grad():
            maps = small[1](small[0](images))
            before = small(images).log_softmax(1)
            true = torch.zeros(6)
            for k in range(6):
                flat = maps.clone()
                flat[:, k] = maps[:, k].mean()
                after = small[2:](flat).log_softmax(1)
                true[k] = (before.exp() * (before - after)).sum(1).mean()
        assert costs.argsort().tolist() == true.argsort().tolist()
        # A second-order estimate from drawn labels: four labels an image scatter.
        torch.testing.assert_close(costs, true, rtol=0.4, atol=1e-4)

    def test_an_image_that_counts_twice_is_as_good_as_two(self, small: nn.Module) -> None:
        images = torch.rand(300, 1, 6, 6, generator=torch.Generator().manual_seed(1))
        once, twice = (
            divergence_costs(small, ["1"], batches, generator=torch.Generator().manual_seed(0))["1"]
            for batches in (
                [(images[:150], torch.full((150,), 1 / 150))],
                [(images, torch.cat([torch.full((150,), 1 / 150), torch.zeros(150)]))],
            )
        )
        # The draws of labels differ, as there are more images to draw for.
        torch.testing.assert_close(once, twice, rtol=0.3, atol=1e-5)

    def test_the_module_is_left_as_it_was(self, small: nn.Module) -> None:
        images = torch.rand(4, 1, 6, 6)
        before = {name: value.clone() for name, value in small.state_dict().items()}
        divergence_costs(small, ["0"], [(images, torch.full((4,), 0.25))], generator=torch.Generator())
        assert all(torch.equal(value, small.state_dict()[name]) for name, value in before.items())
        assert all(p.grad is None for p in small.parameters())
        assert not any(layer._forward_hooks for layer in small)


def test_channels_that_a_depthwise_convolution_filters_have_a_multiple_of_their_own() -> None:
    inverted = nn.Sequential(
        *(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 24, 1), nn.Conv2d(24, 96, 1), nn.ReLU()),
        *(nn.Conv2d(96, 96, 3, padding=1, groups=96), nn.ReLU(), nn.Conv2d(96, 8, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).eval()
    channels = coupled_channels(inverted, "10", IMAGE)
    rules = Rules(channel_multiple=4, depthwise_multiple=16)
    even = even_widths(inverted, channels, kept_flops(inverted, IMAGE, 0.6), rules=rules)
    costs = drawn_costs(channels, 0)
    for widths in (
        even,
        least_cost_widths(inverted, channels, costs, kept_flops(inverted, IMAGE, 0.6), even=even, rules=rules),
    ):
        assert set(widths) == {"0", "2", "3"}
        assert widths["3"] % 16 == 0
        assert all(width % 4 == 0 for width in widths.values())
        assert kept_share(inverted, widths) <= 0.6
    with pytest.raises(ConfigError, match="in multiples of 4 or 16 channels"):
        even_widths(inverted, channels, kept_flops(inverted, IMAGE, 0.01), rules=rules)


@pytest.mark.parametrize("keep_flops", [0.3, 0.5, 0.7])
def test_even_widths_use_the_budget_to_half_a_percent(
    net: nn.Module, coupled: list[Coupled], keep_flops: float
) -> None:
    widths = even_widths(net, coupled, kept_flops(net, IMAGE, keep_flops), rules=Rules())
    assert keep_flops - 0.005 <= kept_share(net, widths) <= keep_flops
