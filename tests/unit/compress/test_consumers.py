"""Where outputs go: batch norms and sums, found in nets as they are written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from edgec.compress.consumers import Outlet, outlets, read
from edgec.models.cifar_resnet import resnet20
from edgec.models.digits import digits_net


class Net(nn.Module):
    """Two convolutions, of which the second to be written runs first, and one that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.never = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.activation = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.end(x, self.second(F.relu(x)))

    def end(self, x: Tensor, y: Tensor) -> Tensor:
        """What is tried: here the plain end of a residual block."""
        return x + self.dropout(self.norm(y))


class InPlace(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        y = self.norm(y)
        y += x
        return self.never(self.activation(y))


class Activated(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        return self.activation(self.norm(y)) + x


class Branching(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(y) + y + x


class PreActivated(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        y += x
        return self.norm(y)


class Functional(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        return y + torch.cat([F.relu(y), x], dim=1)[:, :4]


class Bare(Net):
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.add(self.norm(x), y)


def outlet(net: nn.Module, layer: str) -> Outlet:
    found = {o.layer: o for o in outlets(net.eval(), {"first", "second"}, torch.rand(1, 3, 6, 6))}
    return found[layer]


def test_layers_come_in_the_order_in_which_they_run_and_only_if_they_do() -> None:
    found = outlets(Net().eval(), {"never", "second", "first"}, torch.rand(1, 3, 6, 6))
    assert [o.layer for o in found] == ["first", "second"]
    assert [o.positions for o in found] == [36, 36]


@pytest.mark.parametrize(
    ("net", "norm", "summed"),
    [
        (Net, "norm", True),
        (InPlace, "norm", True),
        (Activated, "norm", False),  # an activation in place leaves the tensor and changes its values
        (Branching, None, False),  # the batch norm takes the output, and the sum as well
        (Functional, None, False),
        (PreActivated, None, True),  # the batch norm takes the sum, in the same tensor
        (Bare, None, True),
    ],
)
def test_the_end_of_a_residual_block_is_known_however_it_is_written(
    net: type[Net], norm: str | None, summed: bool
) -> None:
    found = outlet(net(), "second")
    assert (found.norm, found.summed) == (norm, summed)


def test_a_stream_that_a_block_is_added_to_is_not_its_end() -> None:
    """MobileNetV2's second stage begins with a block that is not residual: its output goes on in two ways."""
    net = torchvision.models.mobilenet_v2(num_classes=10).eval()
    found = {o.layer: o for o in outlets(net, {"features.2.conv.2", "features.3.conv.2"}, torch.rand(1, 3, 32, 32))}
    assert {name: o.summed for name, o in found.items()} == {"features.2.conv.2": False, "features.3.conv.2": True}


def test_every_convolution_of_the_digits_net_has_its_batch_norm() -> None:
    found = outlets(digits_net().eval(), {f"features.{i}" for i in (0, 3, 6, 9)}, torch.rand(1, 1, 8, 8))
    assert [(o.layer, o.norm, o.summed) for o in found] == [
        (f"features.{i}", f"features.{i + 1}", False) for i in (0, 3, 6, 9)
    ]


def test_what_is_read_is_the_output_and_the_other_branch() -> None:
    net, images = Net().eval(), torch.rand(2, 3, 6, 6)
    output, added = read(net, outlet(net, "second"), images)
    with torch.no_grad():
        first = net.first(images)
        assert torch.equal(added, first)
        assert torch.equal(output, net.second(F.relu(first)))


def test_what_is_not_added_to_anything_is_read_with_zeros() -> None:
    net, images = Net().eval(), torch.rand(2, 3, 6, 6)
    output, added = read(net, outlet(net, "first"), images)
    with torch.no_grad():
        assert torch.equal(output, net.first(images))
    assert torch.equal(added, torch.zeros_like(output))


def test_a_sum_in_place_is_read_before_it_is_taken() -> None:
    net, images = torchvision.models.resnet18(num_classes=10).eval(), torch.rand(2, 3, 64, 64)
    name = "layer2.0.conv2"
    (found,) = outlets(net, {name}, images[:1])
    output, added = read(net, found, images)
    with torch.no_grad():
        block = net.get_submodule("layer2.0")
        assert isinstance(block, torchvision.models.resnet.BasicBlock)
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images)))))
        assert torch.equal(output, block.conv2(block.relu(block.bn1(block.conv1(x)))))
        assert torch.equal(added, block.downsample(x))  # which runs after the convolution


def test_every_block_of_a_cifar_resnet_has_one_end() -> None:
    net = resnet20().eval()
    convolutions = {name for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}
    ends = [o.layer for o in outlets(net, convolutions, torch.rand(1, 3, 32, 32)) if o.summed]
    assert ends == [f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2)]
