"""Filter-rank pruning: the paper's sizes to the weight, and which filters stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgec.core.errors import UnsupportedError
from edgec.models.cifar_resnet import CifarResNet, resnet20, resnet56
from edgec.models.digits import digits_net
from edgec.quantize.dorefa import dorefa, quantized_layers
from edgec.study.imbalance.compression import parse_compression
from edgec.study.imbalance.pruning import prune_filters, weight_bits, weight_count

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def pruned(module: nn.Module, level: str) -> nn.Module:
    return prune_filters(module.eval(), IMAGES, sparsity=parse_compression(f"pruned-{level}").sparsity)


def test_resnet20_has_the_weights_and_the_size_of_the_paper() -> None:
    module = resnet20()
    assert weight_count(module) == 268_336
    assert weight_bits(module) == 32 * 268_336
    assert round(weight_bits(module) / 2**20, 2) == 8.19


def test_severe_pruning_leaves_one_filter_in_each_first_convolution_and_the_paper_s_weights() -> None:
    module = pruned(resnet20(), "severe")
    widths = {name: m.out_channels for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert {width for name, width in widths.items() if name.endswith("conv1") and name != "conv1"} == {1}
    assert len(widths) == 19
    assert weight_count(module) == 6_688


def test_severe_pruning_of_resnet56_lacks_the_shortcuts_that_the_paper_s_net_has() -> None:
    """Its 851,504 and 21,344 weights are ours and two 1x1 convolutions, 16 to 32 and 32 to 64 channels."""
    shortcuts = 16 * 32 + 32 * 64
    assert weight_count(resnet56()) == 851_504 - shortcuts
    assert weight_count(pruned(resnet56(), "severe")) == 21_344 - shortcuts


@pytest.mark.parametrize(("level", "weights", "published"), [("mild", 227_008, 227_296), ("moderate", 76_672, 77_248)])
def test_the_other_levels_come_within_a_percent_of_the_paper_s_weights(
    level: str, weights: int, published: int
) -> None:
    assert weight_count(pruned(resnet20(), level)) == weights
    assert weights == pytest.approx(published, rel=0.01)


def test_quantised_layers_take_their_bits_and_the_first_and_last_take_32() -> None:
    module = resnet20().eval()
    inner = quantized_layers(module, IMAGES)
    outer = 3 * 16 * 9 + 64 * 10
    assert weight_bits(module, inner, 4) == 4 * (268_336 - outer) + 32 * outer
    assert weight_count(dorefa(module, IMAGES, weight_bits=4, activation_bits=8)) == 268_336


def test_filters_with_the_largest_mean_of_absolute_weights_stay() -> None:
    module = CifarResNet(8).eval()
    with torch.no_grad():
        module.layer1[0].get_submodule("conv1").get_parameter("weight").mul_(torch.arange(16)[:, None, None, None])
        norms = module.get_submodule("layer1.0.conv1").get_parameter("weight").abs().mean((1, 2, 3))
    expected = sorted(sorted(range(16), key=lambda k: -float(norms[k]))[:4])
    slim = prune_filters(module, IMAGES, sparsity=0.75)
    kept, whole = (net.get_submodule("layer1.0.conv1").get_parameter("weight") for net in (slim, module))
    assert torch.equal(kept, whole[expected])


def test_zero_sparsity_changes_nothing() -> None:
    module = resnet20().eval()
    slim = prune_filters(module, IMAGES, sparsity=0)
    assert torch.equal(slim(IMAGES), module(IMAGES))


def test_the_layer_that_reads_the_image_stays_whole() -> None:
    slim = prune_filters(digits_net().eval(), torch.randn(2, 1, 8, 8), sparsity=1)
    widths = [m.out_channels for m in slim.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [32, 1, 1, 64]


def test_a_net_without_inner_convolutions_is_refused() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    with pytest.raises(UnsupportedError, match="no convolution whose filters can go on their own"):
        prune_filters(module.eval(), IMAGES, sparsity=0.5)
