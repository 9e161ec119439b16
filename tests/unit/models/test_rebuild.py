"""A pruned module built again from its architecture and its weights."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from edgec.compress.prune import prune
from edgec.core.errors import UnsupportedError
from edgec.models.attention import FewerHeads
from edgec.models.digits import digits_net
from edgec.models.rebuild import rebuild_


def randomised(net: nn.Module) -> nn.Module:
    """Batch-norm statistics too, so that a lost one shows."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net.eval()


def require_same(rebuilt: nn.Module, pruned: nn.Module, images: torch.Tensor) -> None:
    rebuild_(rebuilt, pruned.state_dict())
    state = pruned.state_dict()
    assert {name: tensor.shape for name, tensor in rebuilt.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images), pruned(images))


def test_a_pruned_net_with_a_grey_input_comes_back_exactly() -> None:
    """The first convolution has one input channel, which makes it no depthwise one."""
    images = torch.rand(2, 1, 8, 8)
    pruned = prune(
        randomised(digits_net()),
        {"features.0": torch.tensor([1, 5, 30]), "features.3": torch.arange(7), "features.6": torch.arange(40)},
        images[:1],
    )
    rebuilt = digits_net()
    require_same(rebuilt, pruned, images)
    first = rebuilt.features[0]
    assert (first.in_channels, first.out_channels, first.groups) == (1, 3, 1)


def test_depthwise_layers_keep_one_filter_a_channel() -> None:
    images = torch.rand(2, 3, 32, 32)
    pruned = prune(
        randomised(torchvision.models.mobilenet_v2(num_classes=4)),
        {"features.2.conv.0.0": torch.arange(0, 96, 2), "features.5.conv.0.0": torch.arange(50)},
        images[:1],
    )
    rebuilt = torchvision.models.mobilenet_v2(num_classes=4)
    require_same(rebuilt, pruned, images)
    depthwise = rebuilt.features[2].conv[1][0]
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (48, 48, 48)


def test_grouped_convolutions_keep_the_width_of_their_groups() -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, 12, 1), nn.Conv2d(12, 12, 3, groups=3), nn.Flatten(), nn.Linear(12 * 36, 2))

    images = torch.rand(2, 1, 8, 8)
    pruned = prune(net().eval(), {"0": torch.tensor([0, 1, 2, 3, 8, 9, 10, 11])}, images[:1])
    rebuilt = net()
    require_same(rebuilt, pruned, images)
    assert (rebuilt[1].in_channels, rebuilt[1].out_channels, rebuilt[1].groups) == (8, 8, 2)


def test_attention_gets_as_many_heads_as_its_weights_are_for() -> None:
    def net() -> nn.Module:
        return nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)

    pruned = net().eval()
    pruned.self_attn = FewerHeads(pruned.self_attn, torch.tensor([2, 3, 6, 7]))
    rebuilt = net()
    require_same(rebuilt, pruned, torch.rand(2, 5, 8))
    assert rebuilt.self_attn.num_heads == 2


def test_what_has_no_weights_left_is_gone() -> None:
    images = torch.rand(2, 3, 32, 32)
    dropped = randomised(torchvision.models.resnet18(num_classes=4))
    dropped.layer1[1] = dropped.layer3[1] = nn.Identity()
    rebuilt = torchvision.models.resnet18(num_classes=4)
    require_same(rebuilt, dropped, images)
    gone = [name for name, layer in rebuilt.named_modules() if isinstance(layer, nn.Identity)]
    assert gone == ["layer1.1", "layer3.1"]


def test_a_layer_that_lost_one_of_its_tensors_is_not_gone() -> None:
    state = randomised(digits_net()).state_dict()
    del state["features.1.bias"]
    with pytest.raises(KeyError, match=r"features\.1\.bias"):
        rebuild_(digits_net(), state)


def test_linear_layers_change_their_size_too() -> None:
    def mlp() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

    images = torch.rand(2, 3, 2, 2)
    pruned = prune(mlp(), {"1": torch.tensor([0, 3, 7])}, images[:1])
    rebuilt = mlp()
    require_same(rebuilt, pruned, images)
    assert (rebuilt[1].out_features, rebuilt[3].in_features) == (3, 3)


def test_a_net_that_was_not_pruned_only_takes_the_values() -> None:
    net, other = randomised(digits_net()), digits_net()
    parameters = {name: id(parameter) for name, parameter in other.named_parameters()}
    require_same(other, net, torch.rand(2, 1, 8, 8))
    assert {name: id(parameter) for name, parameter in other.named_parameters()} == parameters


def test_a_layer_norm_is_as_wide_as_its_weights() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    require_same(net, nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5)).eval(), torch.rand(2, 4))
    assert net[1].normalized_shape == (5,)


def test_what_is_rebuilt_can_be_trained_and_shares_no_memory_with_the_weights_given() -> None:
    state = prune(digits_net(), {"features.0": torch.arange(5)}, torch.rand(1, 1, 8, 8)).state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    rebuilt = digits_net()
    rebuild_(rebuilt, state)
    assert all(parameter.requires_grad for parameter in rebuilt.parameters())
    with torch.no_grad():
        for parameter in rebuilt.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def test_a_resized_layer_of_another_kind_is_named() -> None:
    with pytest.raises(UnsupportedError, match="layer '0': cannot rebuild a resized Embedding"):
        rebuild_(nn.Sequential(nn.Embedding(4, 3)), {"0.weight": torch.zeros(4, 2)})
