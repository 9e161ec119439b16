"""Pixels through a module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec, normalise
from edgec.core.samples import Images
from edgec.models.infer import logits_of, placed, to_tensor

SPEC = InputSpec(height=4, width=5)


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(60, 3)).eval()
    return Classifier(module=module, input=SPEC, labels=("a", "b", "c"))


@pytest.fixture
def images() -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    return Images(pixels=pixels, digests=tuple("abcdefg"), source="here")


def test_a_tensor_holds_the_normalised_pixels(images: Images) -> None:
    tensor = to_tensor(images.decoded(), SPEC)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (7, 3, 4, 5))
    np.testing.assert_array_equal(tensor.numpy(), normalise(images.decoded(), SPEC))


@pytest.mark.parametrize("size", [1, 3, 256])
def test_logits_agree_with_numpy_in_whatever_batches(classifier: Classifier, images: Images, size: int) -> None:
    weight, bias = (p.detach().double().numpy() for p in classifier.module[2].parameters())
    scaled = (images.decoded().astype(float) / 255 - SPEC.mean) / SPEC.std
    wanted = scaled.transpose(0, 3, 1, 2).reshape(7, 60) @ weight.T + bias
    got = logits_of(classifier, images, batch_size=size)
    assert got.dtype == np.float32
    # Sums of 60 products of order 1, rounded to 24 bits.
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_module_can_still_be_trained_afterwards(classifier: Classifier, images: Images) -> None:
    logits_of(classifier, images)
    assert not any(parameter.is_inference() for parameter in classifier.module.parameters())
    classifier.module(torch.rand(2, 3, 4, 5)).sum().backward()


class Recorder(nn.Linear):
    """A layer that remembers where it was sent; there is one device here."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.places: list[str] = []

    def to(self, device: torch.device | str) -> Recorder:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.places.append(str(device))
        return self


def test_a_module_goes_back_to_where_it_was() -> None:
    module = Recorder().train()
    with placed(module, "cuda") as there:
        assert there is module
        assert not there.training
        assert module.places == ["cuda"]
    assert module.places == ["cuda", "cpu"]


def test_a_module_goes_back_also_when_the_block_fails() -> None:
    module = Recorder()
    with pytest.raises(KeyError), placed(module, "cuda"):
        raise KeyError
    assert module.places == ["cuda", "cpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_cpus_logits_and_the_module_back(classifier: Classifier, images: Images) -> None:
    there = logits_of(classifier, images, device="cuda")
    # TF32 is off for matrix products by default; sums in another order.
    np.testing.assert_allclose(there, logits_of(classifier, images), atol=1e-4)
    assert next(classifier.module.parameters()).device.type == "cpu"


def test_a_module_without_parameters_can_be_placed() -> None:
    with placed(nn.ReLU(), "cpu") as module:
        assert isinstance(module, nn.ReLU)
