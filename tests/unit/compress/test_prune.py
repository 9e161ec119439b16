"""Structured pruning: what is coupled, how much may stay, and what a pruned net computes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torchvision
from torch import Tensor, nn

from edgec.compress.coupling import Coupled, coupled_channels
from edgec.compress.flops import layer_flops, total_flops
from edgec.compress.price import MultiplyAdds, kept_flops, layers_of, narrowed
from edgec.compress.prune import prune
from edgec.compress.widths import even_widths
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.target import Rules
from edgec.models.attention import FewerHeads
from edgec.models.cifar_resnet import resnet20
from edgec.models.digits import digits_net
from edgec.models.taps import find_tap

IMAGE = torch.zeros(1, 1, 8, 8)


def torchvision_net(name: str) -> nn.Module:
    return torchvision.models.get_model(name, num_classes=10)


# Shapes alone: on the meta device nothing is computed.
NETS = {
    "digits": (digits_net, 8, 1),
    "cifar-resnet20": (resnet20, 32, 3),
    "vit_b_16": (lambda: torchvision.models.vit_b_16(num_classes=10, image_size=64), 64, 3),
    **{
        name: (lambda name=name: torchvision_net(name), 64, 3)
        for name in (
            *("resnet18", "resnext50_32x4d", "vgg11_bn", "densenet121", "convnext_tiny"),
            *("mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x1_0"),
        )
    },
}


@dataclass
class Net:
    """A net, an example for it, its head's name and what is coupled in it."""

    module: nn.Module
    example: Tensor
    head: str
    coupled: list[Coupled]


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> Net:
    factory, side, channels = NETS[request.param]
    with torch.device("cpu" if request.param.startswith("regnet") else "meta"):  # RegNet computes its widths
        module, example = factory().eval().to("meta"), torch.zeros(1, channels, side, side, device="meta")
    head = find_tap(module, torch.cat([example, example])).head
    return Net(module, example, head, coupled_channels(module, head, example))


@pytest.mark.parametrize(("multiple", "keep_flops"), [(1, 0.55), (8, 0.7)])
def test_the_predicted_multiply_adds_are_those_after_pruning(net: Net, multiple: int, keep_flops: float) -> None:
    module, example, coupled = net.module, net.example, net.coupled
    widths = even_widths(
        module, coupled, kept_flops(module, example, keep_flops), rules=Rules(channel_multiple=multiple)
    )
    flops = layer_flops(module, example)
    predicted = MultiplyAdds(module, example).of_layers(narrowed(layers_of(module), coupled, widths))
    pruned = prune(module, {name: torch.arange(width, device="cpu") for name, width in widths.items()}, example)
    # Sums of exact integers scaled by shares in double precision.
    assert predicted == pytest.approx(total_flops(pruned, example), rel=1e-9)
    assert predicted <= keep_flops * sum(flops.values())
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in module.parameters())
    for group in coupled:
        width = widths[group.producer]
        layer = pruned.get_submodule(group.producer)
        assert width == (layer.out_proj.in_features if isinstance(layer, FewerHeads) else layer.weight.shape[0])
        assert (width % multiple == 0 and width % group.unit == 0) or width == group.channels


def test_what_judges_a_channel_has_just_these_channels(net: Net) -> None:
    for group in net.coupled:
        if group.judge is not None:
            assert net.module.get_submodule(group.judge).weight.shape[0] == group.channels


def test_keeping_all_multiply_adds_keeps_every_channel(net: Net) -> None:
    for multiple in (1, 8, 12, 100):
        widths = even_widths(
            net.module, net.coupled, kept_flops(net.module, net.example, 1), rules=Rules(channel_multiple=multiple)
        )
        assert widths == {group.producer: group.channels for group in net.coupled}


def test_what_the_head_takes_and_gives_stays_whole(net: Net) -> None:
    kept = {group.producer: torch.arange(group.unit, device="cpu") for group in net.coupled}
    pruned = prune(net.module, kept, net.example)
    assert pruned.get_submodule(net.head).weight.shape == net.module.get_submodule(net.head).weight.shape
    assert pruned(net.example).shape == net.module(net.example).shape


def test_residual_streams_stay_whole() -> None:
    for module, inner in ((resnet20(), r"layer\d\.\d\.conv1"), (torchvision_net("resnet18"), r"layer\d\.\d\.conv1")):
        example = torch.rand(1, 3, 64, 64)
        head = "linear" if hasattr(module, "linear") else "fc"
        coupled = coupled_channels(module.eval(), head, example)
        assert all(re.fullmatch(inner, group.producer) for group in coupled)
        pruned = prune(module, {group.producer: torch.arange(3) for group in coupled}, example)
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Conv2d):
                was, now = layer.weight.shape, pruned.get_submodule(name).weight.shape
                is_inner, follows = bool(re.fullmatch(inner, name)), bool(re.fullmatch(r"layer\d\.\d\.conv2", name))
                assert now == (3 if is_inner else was[0], 3 if follows else was[1], *was[2:])


def test_judges_are_the_batch_norms_behind_the_convolutions() -> None:
    judges = {g.producer: g.judge for g in coupled_channels(digits_net().eval(), "head", IMAGE)}
    assert judges == {"features.0": "features.1", "features.3": "features.4", "features.6": "features.7"}


def test_without_batch_norm_a_layer_judges_itself() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 2))
    assert [(g.producer, g.judge) for g in coupled_channels(net.eval(), "5", IMAGE)] == [("0", "0")]


def test_a_pruned_net_computes_what_the_whole_one_does_with_the_channels_cut_off(teacher: Classifier) -> None:
    kept = {"features.0": [0, 3, 31], "features.3": list(range(5, 20)), "features.6": [*range(0, 64, 2)]}
    reference = copy.deepcopy(teacher.module)
    for taker, maker in (("features.3", "features.0"), ("features.6", "features.3"), ("features.9", "features.6")):
        weight = reference.get_submodule(taker).weight.data
        weight[:, [k for k in range(weight.shape[1]) if k not in kept[maker]]] = 0
    pruned = prune(teacher.module, {name: torch.tensor(stay) for name, stay in kept.items()}, IMAGE)
    images = torch.rand(5, 1, 8, 8)
    # The same products, summed in another order.
    torch.testing.assert_close(pruned(images), reference(images), atol=1e-4, rtol=1e-4)


def test_keeping_every_channel_changes_nothing(teacher: Classifier) -> None:
    pruned = prune(teacher.module, {"features.0": torch.arange(32)}, IMAGE)
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(pruned(images), teacher.module(images))


def test_the_order_of_the_channels_asked_for_does_not_matter(teacher: Classifier) -> None:
    images = torch.rand(3, 1, 8, 8)
    one, two = (
        prune(teacher.module, {"features.0": torch.tensor(stay)}, IMAGE)(images) for stay in ([1, 7, 30], [30, 1, 7])
    )
    assert torch.equal(one, two)


def test_the_module_given_is_left_as_it_was(teacher: Classifier, snapshot: Callable) -> None:
    before = snapshot(teacher.module)
    coupled = coupled_channels(teacher.module, "head", IMAGE)
    even_widths(teacher.module, coupled, kept_flops(teacher.module, IMAGE, 0.5), rules=Rules())
    prune(teacher.module, {group.producer: torch.arange(2) for group in coupled}, IMAGE)
    assert snapshot(teacher.module) == before


def test_a_frozen_module_can_be_pruned_and_its_copy_trained(teacher: Classifier) -> None:
    frozen = teacher.module.requires_grad_(requires_grad=False)
    coupled = coupled_channels(frozen, "head", IMAGE)
    assert [group.producer for group in coupled] == ["features.0", "features.3", "features.6"]
    pruned = prune(frozen, {"features.0": torch.arange(2)}, IMAGE)
    assert all(parameter.requires_grad for parameter in pruned.parameters())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def slowly_kept(module: nn.Module, coupled: list, *, keep_flops: float, multiple: int) -> list[dict[str, int]]:
    """All plans with one share everywhere that fit, by pruning for real and counting, smallest first."""
    shares = sorted({i / group.channels for group in coupled for i in range(1, group.channels + 1)})
    fits: list[dict[str, int]] = []
    for share in shares:
        plan = {
            g.producer: g.channels
            if share == 1
            else min(g.channels, max(multiple, round(share * g.channels / multiple) * multiple))
            for g in coupled
        }
        pruned = prune(module, {name: torch.arange(width) for name, width in plan.items()}, IMAGE)
        if total_flops(pruned, IMAGE) <= keep_flops * total_flops(module, IMAGE):
            fits.append(plan)
    return fits


@pytest.mark.parametrize(("keep_flops", "multiple"), [(0.5, 1), (0.4, 8), (0.77, 5)])
def test_the_largest_share_that_fits_is_taken_and_the_rest_fills_the_budget(keep_flops: float, multiple: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 20, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(20, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    ).eval()
    coupled = coupled_channels(net, "7", IMAGE)
    fits = slowly_kept(net, coupled, keep_flops=keep_flops, multiple=multiple)
    widths = even_widths(net, coupled, kept_flops(net, IMAGE, keep_flops), rules=Rules(channel_multiple=multiple))
    assert all(widths[name] >= width for name, width in fits[-1].items())
    pruned = prune(net, {name: torch.arange(width) for name, width in widths.items()}, IMAGE)
    assert total_flops(pruned, IMAGE) <= keep_flops * total_flops(net, IMAGE)


def test_a_share_that_cannot_be_reached_says_what_can_and_its_hint_works(teacher: Classifier) -> None:
    coupled = coupled_channels(teacher.module, "head", IMAGE)
    with pytest.raises(ConfigError) as caught:
        even_widths(teacher.module, coupled, kept_flops(teacher.module, IMAGE, 0.05), rules=Rules(channel_multiple=8))
    # 8 of 32, 8 of 32 and 8 of 64 channels: 4608 + 36864 + 9216 + 73728 + 640 of 1,493,632.
    assert str(caught.value) == (
        "keep_flops = 0.05: pruning inside the blocks in multiples of 8 channels leaves at least 0.08 of the "
        "multiply-adds"
    )
    hint = re.fullmatch(r"set compress\.keep_flops to (0\.\d\d) or more", str(caught.value.hint))
    assert hint
    widths = even_widths(
        teacher.module, coupled, kept_flops(teacher.module, IMAGE, float(hint[1])), rules=Rules(channel_multiple=8)
    )
    assert set(widths.values()) == {8}


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ],
)
def test_a_net_without_channels_of_its_own_is_refused(net: nn.Sequential) -> None:
    with pytest.raises(UnsupportedError, match="the model has no channels that can be pruned on their own") as caught:
        coupled_channels(net.eval(), str(len(net) - 1), IMAGE)
    assert caught.value.hint == "use compress.method = 'none' to quantise it alone"


class Counting(nn.Module):
    """Works on a parameter in place, which it may only while nothing is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.add_(1)


def test_a_net_that_torch_pruning_cannot_follow_is_refused_in_one_line() -> None:
    net = nn.Sequential(Counting(), nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    with pytest.raises(UnsupportedError, match="torch-pruning cannot follow the model's channels: ") as caught:
        coupled_channels(net, "4", IMAGE)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "use compress.method = 'none' to quantise it alone"


class Halved(nn.Module):
    """Asks for as many channels as it once had, where no layer tells of them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 6, -1).mean(2)


def test_a_net_that_does_not_run_with_fewer_channels_is_refused_in_one_line() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 3), Halved(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with pytest.raises(UnsupportedError, match="the model does not run with fewer channels: RuntimeError: ") as caught:
        prune(net, {"0": torch.arange(5)}, IMAGE)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == (
        "use compress.method = 'practise', which drops whole blocks, or 'none' to quantise it alone"
    )


# ---- what channels may share, and what ties them


class Joined(nn.Module):
    """Two convolutions of the same input, joined by a function; then a classifier."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], taken: int = 6) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 6, 1)
        self.join = join
        self.three = nn.Conv2d(taken, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.join(self.one(x), self.two(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("join", "producers"),
    [
        (lambda a, b: a * b, {"one": {"one": 6, "two": 6}}),
        (lambda a, b: a * b.mean((2, 3), keepdim=True).sigmoid().expand_as(a), {"one": {"one": 6, "two": 6}}),
        (lambda a, b: a + b, {}),
        (lambda a, b: a * b + a, {}),
        (torch.maximum, {}),
        (lambda a, b: a @ b, {}),
    ],
)
def test_layers_may_share_channels_by_multiplication_alone(join: Callable, producers: dict) -> None:
    found = coupled_channels_or_none(Joined(join))
    assert {group.producer: dict(group.outputs) for group in found} == producers


def test_channels_that_are_put_side_by_side_stay_apart() -> None:
    found = coupled_channels_or_none(Joined(lambda a, b: torch.cat([a, b], 1), taken=12))
    assert [(group.producer, dict(group.inputs)) for group in found] == [("one", {"three": 6}), ("two", {"three": 6})]


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a.chunk(2, 1)[0].repeat(1, 2, 1, 1),
        lambda a, b: a[:, :3].repeat(1, 2, 1, 1),
        lambda a, b: a.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2),
        lambda a, b: torch.stack(a.unbind(1), 1),
    ],
)
def test_channels_that_are_told_apart_by_their_position_stay_whole(join: Callable) -> None:
    assert coupled_channels_or_none(Joined(join)) == []


def test_channels_that_the_image_is_added_to_stay_whole() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1)
            self.three, self.head = nn.Conv2d(4, 3, 1), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.three(self.two(self.one(x) + x)).mean((2, 3)))

    assert [group.producer for group in coupled_channels(Net().eval(), "head", torch.zeros(1, 3, 8, 8))] == ["two"]


def test_channels_that_are_the_result_stay_whole() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(64, 5), nn.Linear(5, 4), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            one = self.one(x.flatten(1))
            return torch.cat([self.head(x.flatten(1)), self.two(one), one], 1).sigmoid()

    with pytest.raises(UnsupportedError, match="the model has no channels that can be pruned on their own"):
        coupled_channels(Net().eval(), "head", IMAGE)


def coupled_channels_or_none(net: nn.Module) -> list[Coupled]:
    """Of those before the layer `three`, whose outputs the head takes."""
    try:
        return coupled_channels(net.eval(), "head", IMAGE)
    except UnsupportedError:
        return []


def silenced(module: nn.Module, coupled: list[Coupled], kept: dict[str, Tensor]) -> nn.Module:
    """The whole net in which nobody listens to the channels that are cut off."""
    whole = copy.deepcopy(module)
    for group in coupled:
        gone = sorted(set(range(group.channels)) - set(kept[group.producer].tolist()))
        takers = [f"{group.producer}.out_proj"] if group.judge is None else group.inputs
        for name in takers:
            weight = whole.get_submodule(name).weight
            assert weight.shape[1] == group.channels  # nothing else comes in, and each channel once
            weight.data[:, gone] = 0
    return whole


TINY_VIT = {"image_size": 32, "patch_size": 16, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 48}


@pytest.mark.parametrize(
    "factory",
    [
        lambda: torchvision_net("mobilenet_v3_small"),  # squeeze-and-excitation
        lambda: torchvision_net("regnet_y_400mf"),  # and groups of eight channels
        lambda: torchvision_net("shufflenet_v2_x0_5"),
        lambda: torchvision.models.VisionTransformer(**TINY_VIT, num_classes=10),
    ],
)
@torch.no_grad()
def test_units_go_without_a_trace_in_what_is_left(factory: Callable[[], nn.Module]) -> None:
    module, images = lively(factory()), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.enable_grad():
        coupled = [c for c in coupled_channels(module, find_tap(module, images).head, images) if is_alone(module, c)]
        units = {
            c.producer: torch.rand(c.channels // c.unit).argsort()[: c.channels // c.unit // 2 + 1] for c in coupled
        }
        kept = {
            c.producer: (units[c.producer][:, None] * c.unit + torch.arange(c.unit)).flatten().sort().values
            for c in coupled
        }
        pruned = prune(module, kept, images[:1])
    assert len(coupled) > 3
    # The same products, summed in another order, in double precision.
    torch.testing.assert_close(pruned(images), silenced(module, coupled, kept)(images), atol=1e-11, rtol=1e-9)
    assert not torch.allclose(pruned(images), module(images), atol=1e-3)


def lively(module: nn.Module) -> nn.Module:
    """Nothing starts at zero, and batch norm has seen images, so that each layer's signal reaches the end."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.add_(0.5 * torch.rand_like(parameter))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    module.train()(torch.rand(16, 3, 32, 32, dtype=torch.float64))
    return module.eval()


def is_alone(module: nn.Module, group: Coupled) -> bool:
    """Whether those who take these channels take no others, which makes it easy to silence them."""
    return all(module.get_submodule(name).weight.shape[1] == group.channels for name in group.inputs)


def grouped(outs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, outs, 3, groups=2), nn.ReLU(), nn.Conv2d(outs, 6, 1), nn.ReLU()),
        *(nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ).eval()


def test_groups_of_a_convolution_go_whole() -> None:
    found = coupled_channels(grouped(8), "9", IMAGE)
    assert [(group.producer, group.unit) for group in found] == [("0", 4), ("4", 1)]
    pruned = prune(grouped(8), {"0": torch.arange(4, 8)}, IMAGE)
    assert (pruned[2].groups, pruned[2].in_channels, pruned[2].weight.shape) == (1, 4, (4, 4, 3, 3))


def test_grouped_convolutions_that_change_the_width_stay_whole() -> None:
    assert [group.producer for group in coupled_channels(grouped(16), "9", IMAGE)] == ["4"]
