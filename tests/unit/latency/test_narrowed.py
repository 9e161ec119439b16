"""Latency by the layers that are left, against graphs of nets that were really cut."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from edgec.compress.blocks import without_blocks
from edgec.compress.coupling import coupled_channels
from edgec.compress.price import layers_of, narrowed
from edgec.compress.prune import prune
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.target import load_target
from edgec.models.cifar_resnet import Block
from edgec.pipeline.latency_price import LatencyPrice

IMAGE = torch.zeros(1, 1, 8, 8)
SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,))


class Gated(nn.Module):
    """An inverted residual with a squeeze-and-excitation gate."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm = nn.Conv2d(16, 48, 1), nn.BatchNorm2d(48)
        self.filter = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.squeeze, self.excite = nn.Conv2d(48, 8, 1), nn.Conv2d(8, 48, 1)
        self.narrow = nn.Conv2d(48, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.filter(torch.relu(self.norm(self.wide(x))))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return x + self.narrow(y * gate)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Block(16, 16, 1), Gated(), nn.Conv2d(16, 32, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()


@pytest.fixture(scope="module", params=["jetson", "raspberry-pi-5"])
def price(request: pytest.FixtureRequest) -> LatencyPrice:
    teacher = Classifier(module=net(), input=SPEC, labels=tuple("0123456789"))
    return LatencyPrice(teacher, load_target(request.param), raw=False)


def test_the_whole_net_takes_what_its_graph_takes(price: LatencyPrice) -> None:
    assert price.of_layers(layers_of(net())) == pytest.approx(price.whole, rel=1e-12)


def kept(module: nn.Module, share: float) -> tuple[Mapping[str, tuple[float, float]], nn.Module]:
    coupled = coupled_channels(module, "8", IMAGE)
    widths = {c.producer: max(1, round(share * c.channels)) for c in coupled}
    pruned = prune(module, {name: torch.arange(width) for name, width in widths.items()}, IMAGE)
    return narrowed(layers_of(module), coupled, widths), pruned


def test_a_narrower_net_takes_what_its_own_graph_takes(price: LatencyPrice) -> None:
    layers, pruned = kept(net(), 0.5)
    assert layers_of(pruned) == layers
    assert price.of_layers(layers) == pytest.approx(price.of_net(pruned), rel=0.01)  # whole numbers of elements


@pytest.mark.parametrize("block", ["2", "3"])
def test_a_net_without_a_block_takes_what_its_own_graph_takes(price: LatencyPrice, block: str) -> None:
    left = without_blocks(net(), [block])
    # Around a sum that has gone, a graph rounds once where it did before and behind it.
    assert price.of_layers(layers_of(left)) == pytest.approx(price.of_net(left), rel=0.06)
    assert price.of_net(left) < price.whole


def test_nets_of_the_same_layers_are_measured_once(price: LatencyPrice, monkeypatch: pytest.MonkeyPatch) -> None:
    left = without_blocks(net(), ["2"])
    first = price.of_net(left)
    monkeypatch.setattr(LatencyPrice, "_written", lambda *_: pytest.fail("exported again"))
    assert price.of_net(without_blocks(net(), ["2"])) == first
