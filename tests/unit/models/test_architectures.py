"""The architectures that ship with edgec: parameter counts, shapes, and the CIFAR ResNet's shortcut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgec.models.cifar_resnet import Block, resnet20, resnet32, resnet56
from edgec.models.digits import digits_net


# He et al. 2015, table 6: 0.27, 0.46 and 0.85 million; exact counts of github.com/akamaster/pytorch_resnet_cifar10.
@pytest.mark.parametrize(("factory", "count"), [(resnet20, 269_722), (resnet32, 464_154), (resnet56, 853_018)])
def test_a_cifar_resnet_has_as_many_parameters_as_the_published_one(factory, count: int) -> None:
    assert sum(parameter.numel() for parameter in factory().parameters()) == count


def test_weights_of_convolutions_and_the_head_are_those_of_the_imbalance_study() -> None:
    """268,336 without biases and batch norm (docs/methods.md §2)."""
    assert sum(p.numel() for p in resnet20().parameters() if p.ndim > 1) == 268_336


def test_the_number_of_classes_is_the_number_of_logits() -> None:
    assert resnet20(classes=7).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@torch.no_grad()
def test_a_block_that_changes_its_shape_strides_its_shortcut_and_pads_it_with_zeros() -> None:
    block = Block(4, 8, 2).eval()
    for parameter in block.parameters():
        parameter.zero_()
    x = torch.rand(2, 4, 6, 6)
    got = block(x).numpy()
    wanted = np.zeros((2, 8, 3, 3), dtype=np.float32)
    wanted[:, 2:6] = x.numpy()[:, :, ::2, ::2]
    np.testing.assert_array_equal(got, wanted)


@torch.no_grad()
def test_a_block_without_weights_is_the_identity_on_what_is_not_negative() -> None:
    block = Block(4, 4, 1).eval()
    for parameter in block.parameters():
        parameter.zero_()
    x = torch.rand(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x)


def test_the_digits_net_takes_grey_images_and_gives_ten_logits() -> None:
    assert digits_net().eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
