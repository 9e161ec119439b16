"""How far images are from others to a teacher, against NumPy and by its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.compress.domain import MOST_IMAGES, domain_gap
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.data import load_ood
from edgec.models.infer import to_tensor
from edgec.models.load import load_classifier
from edgec.pipeline.config import read_config


class Two(nn.Module):
    """Two convolutions over single pixels: what the second reads is the first's output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


def slow_gap(near: list[np.ndarray], far: list[np.ndarray]) -> float:
    """Reference: the layers' maps [n, channel, height, width], channel by channel."""
    layers = []
    for a, b in zip(near, far, strict=True):
        channels = []
        for c in range(a.shape[1]):
            (m, v), (n, w) = ((part[:, c].mean(), part[:, c].var()) for part in (a, b))
            channels.append(0.5 * (w / v + (n - m) ** 2 / v - 1 - np.log(w / v)))
        layers.append(np.mean(channels))
    return float(np.mean(layers))


def test_the_gap_agrees_with_a_loop(fabric: Fabric) -> None:
    torch.manual_seed(0)
    net, near, far = Two().eval(), torch.randn(MOST_IMAGES + 7, 2, 4, 4), 2 * torch.randn(30, 2, 4, 4) + 1
    with torch.no_grad():
        maps = [[net.first(images).numpy(), net.second(net.first(images)).numpy()] for images in (near, far)]
    # float32 maps, summed in double precision
    assert domain_gap(net, near, far, fabric=fabric) == pytest.approx(slow_gap(*maps), rel=1e-4)


def test_images_are_nowhere_nearer_than_to_themselves(teacher: Classifier, few: Samples, fabric: Fabric) -> None:
    images = to_tensor(few.decoded(), teacher.input)
    assert domain_gap(teacher.module, images, images, fabric=fabric) == pytest.approx(0, abs=1e-6)


def test_other_digits_are_near_and_photographs_are_far(
    few: Samples, digits: tuple[Samples, Samples], fabric: Fabric
) -> None:
    model = read_config(None).model
    teacher = load_classifier(model, digits[0].classes)
    built_in = load_ood(None, model.input, count=200, seed=0, progress=Silent())
    near, others, photographs = (
        to_tensor(part.decoded(), teacher.input) for part in (few, digits[1].take(np.arange(200)), built_in)
    )
    assert domain_gap(teacher.module, near, others, fabric=fabric) < 0.1
    assert domain_gap(teacher.module, near, photographs, fabric=fabric) > 0.3


def test_a_channel_that_never_changes_does_not_make_the_gap_infinite(fabric: Fabric) -> None:
    torch.manual_seed(0)
    net = Two().eval()
    with torch.no_grad():
        net.first.weight[0] = 0
    gap = domain_gap(net, torch.randn(20, 2, 4, 4), torch.randn(20, 2, 4, 4), fabric=fabric)
    assert 0 <= gap < 1
