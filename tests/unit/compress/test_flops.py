"""Multiply-adds by layer, against hand counts and published figures."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from edgec.compress.flops import layer_flops, total_flops
from edgec.models.attention import FewerHeads
from edgec.models.cifar_resnet import resnet20
from edgec.models.digits import digits_net


def test_the_digits_net_agrees_with_a_count_by_hand() -> None:
    assert layer_flops(digits_net().eval(), torch.zeros(1, 1, 8, 8)) == {
        "features.0": 8 * 8 * 3 * 3 * 1 * 32,
        "features.3": 8 * 8 * 3 * 3 * 32 * 32,
        "features.6": 4 * 4 * 3 * 3 * 32 * 64,
        "features.9": 4 * 4 * 3 * 3 * 64 * 64,
        "head": 64 * 10,
    }


# torchvision's own figures, in units of 1e9 multiply-adds.
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "vit_b_16"])
def test_published_counts_are_met(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    with torch.device("meta"):
        net, example = torchvision.models.get_model(name).eval(), torch.zeros(1, 3, 224, 224)
    # They leave out nothing that weighs: the figures are rounded to three decimals.
    assert total_flops(net, example) / 1e9 == pytest.approx(published, abs=2e-3)


def test_resnet20_has_the_papers_count() -> None:
    # 40.55 million multiply-adds in convolutions and the head at 32x32.
    assert total_flops(resnet20().eval(), torch.zeros(1, 3, 32, 32)) == 40_551_040


def test_a_depthwise_layer_counts_one_filter_a_channel() -> None:
    net = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 4, 1))
    assert layer_flops(net, torch.zeros(1, 6, 5, 5)) == {"0": 25 * 9 * 6, "1": 25 * 6 * 4}


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_that_lost_heads_counts_those_that_are_left(batch_first: bool) -> None:
    class Net(nn.Module):
        def __init__(self, attention: nn.Module) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x, need_weights=False)[0]

    whole = nn.MultiheadAttention(8, 4, batch_first=batch_first)
    tokens = torch.zeros(1, 5, 8)
    # A head of two channels: a query, a key, a value and a way out for each of 5 tokens, then scores and means.
    each = 5 * 8 * 2 * 4 + 2 * 5 * 5 * 2
    assert layer_flops(Net(whole), tokens) == {"attention": 4 * each}
    assert layer_flops(Net(FewerHeads(whole, torch.arange(6))), tokens) == {"attention": 3 * each}


def test_only_one_image_of_a_batch_counts() -> None:
    net = digits_net().eval()
    assert layer_flops(net, torch.zeros(5, 1, 8, 8)) == layer_flops(net, torch.zeros(1, 1, 8, 8))


def test_a_layer_that_runs_twice_counts_twice() -> None:
    layer = nn.Linear(4, 4)
    assert layer_flops(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4)) == {"0": 32}


def test_no_hook_is_left() -> None:
    net = digits_net().eval()
    layer_flops(net, torch.zeros(1, 1, 8, 8))
    assert not any(layer._forward_hooks for layer in net.modules())
