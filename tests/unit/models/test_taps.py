"""Where features are: the head and the last map before pooling, in models of several kinds."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from edgec.compress.prune import prune
from edgec.core.errors import UnsupportedError
from edgec.models.cifar_resnet import resnet20
from edgec.models.digits import digits_net
from edgec.models.taps import Tap, common_inputs, find_tap, tapped


@pytest.mark.parametrize(
    ("factory", "shape", "tap"),
    [
        (digits_net, (1, 8, 8), Tap(head="head", features="features")),
        (resnet20, (3, 32, 32), Tap(head="linear", features="layer3")),
        (lambda: torchvision.models.resnet18(num_classes=10), (3, 64, 64), Tap(head="fc", features="layer4")),
        (
            lambda: torchvision.models.mobilenet_v2(num_classes=10),
            (3, 64, 64),
            Tap(head="classifier.1", features="features"),
        ),
        # The maps have 512 channels, the head takes 4,096 features: there is none of its width.
        (lambda: torchvision.models.vgg11_bn(num_classes=10), (3, 32, 32), Tap(head="classifier.6", features=None)),
        # A map of patches has as many channels as the head takes, but all layers come after it.
        (
            lambda: torchvision.models.vit_b_16(num_classes=10, image_size=64),
            (3, 64, 64),
            Tap(head="heads.head", features=None),
        ),
        # At this size the last maps are single pixels: nothing to mimic that the head's input does not say.
        (lambda: torchvision.models.resnet18(num_classes=10), (3, 32, 32), Tap(head="fc", features=None)),
    ],
)
def test_the_head_and_the_last_map_before_pooling_are_found(factory, shape: tuple[int, ...], tap: Tap) -> None:
    with torch.device("meta"):  # shapes say it all
        net, example = factory().eval(), torch.zeros(2, *shape)
    assert find_tap(net, example) == tap


def test_no_trace_is_left_in_the_model() -> None:
    net = digits_net().eval()
    find_tap(net, torch.zeros(2, 1, 8, 8))
    with tapped(net, Tap(head="head", features="features")), tapped(net, Tap(head="head", features=None)):
        pass
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_no_trace_is_left_in_a_model_that_fails() -> None:
    net = digits_net().eval()
    with pytest.raises(RuntimeError):
        find_tap(net, torch.zeros(2, 3, 8, 8))
    assert not any(layer._forward_hooks for layer in net.modules())


def test_a_model_without_a_linear_head_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UnsupportedError, match="the model has no linear layer that gives its logits") as caught:
        find_tap(net, torch.zeros(2, 3, 8, 8))
    assert caught.value.hint == "use compress.method = 'none' to quantise it alone"


def test_a_linear_layer_inside_the_model_is_not_taken_for_the_head() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5), nn.Softmax(1))
    assert find_tap(net, torch.zeros(2, 3, 2, 2)) == Tap(head="3", features=None)


@torch.no_grad()
def test_what_is_tapped_is_what_the_head_makes_its_logits_of() -> None:
    net, images = digits_net().eval(), torch.rand(3, 1, 8, 8)
    with (
        tapped(net, Tap(head="head", features="features")) as maps,
        tapped(net, Tap(head="head", features=None)) as ins,
    ):
        logits = net(images)
    assert maps[0].shape == (3, 64, 4, 4)
    torch.testing.assert_close(net.head(maps[0].mean(dim=(2, 3))), logits)
    torch.testing.assert_close(net.head(ins[0]), logits)


def test_each_pass_leaves_only_its_own_features() -> None:
    net = digits_net().eval()
    with tapped(net, Tap(head="head", features="features")) as features:
        for n in (3, 2):
            net(torch.rand(n, 1, 8, 8))
            assert [len(map_) for map_ in features] == [n]


# ---- maps between


def test_common_inputs_are_those_that_pruning_left_whole() -> None:
    net, example = resnet20().eval(), torch.zeros(2, 3, 32, 32)
    inner = {name: torch.arange(5) for name, layer in net.named_modules() if name.endswith("conv1") and "." in name}
    pruned = prune(net, inner, example[:1])
    found = common_inputs(pruned, net, find_tap(net, example), example)
    assert found == tuple(f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3))


def test_an_unpruned_net_has_all_in_common_but_the_image_and_the_head() -> None:
    net, example = resnet20().eval(), torch.zeros(2, 3, 32, 32)
    convolutions = [name for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]
    assert common_inputs(net, net, find_tap(net, example), example) == tuple(convolutions[1:])


@torch.no_grad()
def test_inputs_of_named_layers_stand_behind_the_features() -> None:
    net, images = resnet20().eval(), torch.rand(2, 3, 32, 32)
    with tapped(net, find_tap(net, images), ["layer3.0.conv1", "layer2.0.conv1"]) as caught:
        net(images)
    torch.testing.assert_close(net.layer3(caught[1]), caught[0])
    torch.testing.assert_close(net.layer2(caught[2]), caught[1])
