"""Channel importance: per-class Taylor terms, class weights, their sum (OE-FSMC eq. 1, 5, 6)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from edgec.compress.config import ClassWeights
from edgec.compress.importance import class_taylor, class_weights, importance
from edgec.learn.labels import complementary_rates

CLASSES = 4
LABELS = torch.tensor([0, 0, 0, 1, 3, 3])
LAYERS = ("0", "1", "3", "7")
"""A convolution, its batch norm, a convolution, a linear layer."""


@pytest.fixture
def net() -> nn.Sequential:
    """In-place activations that clip, as torchvision's MobileNetV2 has."""
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU6(inplace=True),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
        nn.ReLU(inplace=True),
        nn.Linear(6, CLASSES),
    )
    nn.init.constant_(module[1].weight, 4.0)  # so that some activations clip at 6
    return module.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(len(LABELS), 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 4


def finite_differences(net: nn.Module, layer: str, images: Tensor, labels: Tensor) -> np.ndarray:
    """Eq. 5's s_kj [class, channel], sample by sample: by how much the loss changes with a gate on channel k.

    The gate's derivative at 1 is the sum over positions of activation times gradient. Central differences in double
    precision have an error of order step squared.
    """
    net, step = copy.deepcopy(net).double(), 1e-5
    channels = net.get_submodule(layer).weight.shape[0]
    sums, counts = np.zeros((CLASSES, channels)), np.zeros(CLASSES)
    for image, label in zip(images.double(), labels, strict=True):
        counts[label] += 1
        for channel in range(channels):
            losses = []
            for gate in (1 + step, 1 - step):

                def scale(_m: nn.Module, _i: object, output: Tensor, gate: float = gate, k: int = channel) -> Tensor:
                    factor = torch.ones(channels, dtype=output.dtype)
                    factor[k] = gate
                    return output * factor.reshape(1, -1, *[1] * (output.ndim - 2))

                handle = net.get_submodule(layer).register_forward_hook(scale)
                losses.append(F.cross_entropy(net(image[None]), label[None]).item())
                handle.remove()
            sums[label, channel] += abs(losses[0] - losses[1]) / (2 * step)
    return sums / np.maximum(counts, 1)[:, None]


@pytest.mark.parametrize("layer", LAYERS)
def test_taylor_terms_are_what_a_gate_on_the_channel_changes(net: nn.Module, images: Tensor, layer: str) -> None:
    got = class_taylor(net, [layer], [(images, LABELS)], classes=CLASSES)[layer].numpy()
    wanted = finite_differences(net, layer, images, LABELS)
    # Single precision against double; the terms are of order 0.01 to 1.
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)
    assert wanted.max() > 0.01


def test_a_class_without_a_sample_has_no_say(net: nn.Module, images: Tensor) -> None:
    for terms in class_taylor(net, LAYERS, [(images, LABELS)], classes=CLASSES).values():
        assert not terms[2].any()
        assert terms[[0, 1, 3]].any(dim=1).all()


def test_how_samples_are_batched_does_not_matter(net: nn.Module, images: Tensor) -> None:
    whole = class_taylor(net, LAYERS, [(images, LABELS)], classes=CLASSES)
    parts = list(zip(images.split(4), LABELS.split(4), strict=True))
    for name, terms in class_taylor(net, LAYERS, parts, classes=CLASSES).items():
        torch.testing.assert_close(terms, whole[name])


def test_judging_several_layers_at_once_judges_each_as_alone(net: nn.Module, images: Tensor) -> None:
    together = class_taylor(net, LAYERS, [(images, LABELS)], classes=CLASSES)
    for name in LAYERS:
        alone = class_taylor(net, [name], [(images, LABELS)], classes=CLASSES)
        torch.testing.assert_close(alone[name], together[name])


def test_a_channel_that_leads_nowhere_is_worth_nothing(net: nn.Sequential, images: Tensor) -> None:
    with torch.no_grad():
        net[3].weight[:, 1] = 0
    terms = class_taylor(net, ["1"], [(images, LABELS)], classes=CLASSES)["1"]
    assert not terms[:, 1].any()


def test_working_in_place_makes_no_difference() -> None:
    net = torchvision.models.mobilenet_v2(num_classes=3).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.weight, 3.0)
    other = copy.deepcopy(net)
    for layer in other.modules():
        if isinstance(layer, nn.ReLU6):
            layer.inplace = False
    layers = ["features.0.1", "features.2.conv.0.1", "features.18.1"]
    batch = [(torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2]))]
    wanted = class_taylor(other, layers, batch, classes=3)
    for name, terms in class_taylor(net, layers, batch, classes=3).items():
        torch.testing.assert_close(terms, wanted[name])


def test_a_frozen_module_can_be_judged(net: nn.Module, images: Tensor) -> None:
    wanted = class_taylor(net, LAYERS, [(images, LABELS)], classes=CLASSES)
    for name, terms in class_taylor(
        net.requires_grad_(requires_grad=False), LAYERS, [(images, LABELS)], classes=CLASSES
    ).items():
        torch.testing.assert_close(terms, wanted[name])


def test_the_module_is_left_as_it_was(net: nn.Module, images: Tensor, snapshot: Callable) -> None:
    before = snapshot(net)
    class_taylor(net, LAYERS, [(images, LABELS)], classes=CLASSES)
    assert snapshot(net) == before


def test_the_module_is_left_as_it_was_when_it_fails(net: nn.Module, snapshot: Callable) -> None:
    before = snapshot(net)
    with pytest.raises(RuntimeError):
        class_taylor(net, LAYERS, [(torch.rand(1, 3, 6, 6), LABELS[:1])], classes=CLASSES)
    assert snapshot(net) == before


FEW, AUXILIARY = np.array([6, 3, 1, 0]), np.array([0, 2, 4, 4])


@pytest.mark.parametrize(
    ("reading", "wanted"),
    [
        (ClassWeights.FREQUENCY, np.array([6, 3, 1, 0]) / 10),
        (ClassWeights.MIXED, np.array([6, 5, 5, 4]) / 20),
        # 1/6, 1/3, 1, and 1 for the class without a sample, over their sum 2.5.
        (ClassWeights.INVERSE, np.array([1 / 6, 1 / 3, 1, 1]) / 2.5),
        # alpha = 0.6; K alpha - 1 = 1.4.
        (ClassWeights.COMPLEMENTARY, np.array([0, 0.3, 0.5, 0.6]) / 1.4),
    ],
)
def test_each_reading_of_equation_6_gives_its_weights(reading: ClassWeights, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(class_weights(reading, FEW, AUXILIARY), wanted)


def test_the_complementary_reading_is_equation_4() -> None:
    got = class_weights(ClassWeights.COMPLEMENTARY, FEW, AUXILIARY)
    np.testing.assert_allclose(got, complementary_rates(FEW))


@pytest.mark.parametrize("reading", ClassWeights)
def test_balanced_samples_get_equal_weights_in_every_reading(reading: ClassWeights) -> None:
    np.testing.assert_allclose(class_weights(reading, np.full(5, 3), np.full(5, 2)), np.full(5, 0.2))


@pytest.mark.parametrize("reading", [ClassWeights.MIXED, ClassWeights.INVERSE, ClassWeights.COMPLEMENTARY])
def test_minorities_weigh_more_than_under_equation_1(reading: ClassWeights) -> None:
    frequency = class_weights(ClassWeights.FREQUENCY, FEW, AUXILIARY)
    assert class_weights(reading, FEW, AUXILIARY)[3] > frequency[3]


def test_importance_is_the_weighted_sum_over_classes() -> None:
    taylor, weights = torch.rand(4, 5), np.array([0.4, 0.3, 0.2, 0.1])
    wanted = [sum(weights[j] * float(taylor[j, k]) for j in range(4)) for k in range(5)]
    np.testing.assert_allclose(importance(taylor, weights).numpy(), wanted, rtol=1e-6)


def test_a_linear_layer_has_its_channels_last() -> None:
    """Tokens come before channels there; in a convolution positions come behind."""
    torch.manual_seed(0)
    wide, head = nn.Linear(4, 6), nn.Linear(6, 3)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.head = wide, head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.wide(x.flatten(2)).relu().mean(1))

    images, labels = torch.randn(5, 7, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    terms = class_taylor(Tokens().eval(), ["wide"], [(images, labels)], classes=3)["wide"]
    shown = wide(images.flatten(2)).detach().requires_grad_()
    nn.functional.cross_entropy(head(shown.relu().mean(1)), labels, reduction="sum").backward()
    by_sample = (shown * shown.grad).detach().sum(1).abs()
    wanted = torch.stack([by_sample[labels == label].mean(0) for label in range(3)])
    torch.testing.assert_close(terms, wanted)
