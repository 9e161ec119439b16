"""The digits teacher, a few samples and OOD images of it, and the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from edgec.compress.job import CompressJob
from edgec.core.classifier import Classifier
from edgec.core.digest import digest_image
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images, Samples
from edgec.core.target import Rules
from edgec.data import draw_few, load_digits_splits
from edgec.learn.config import Budget
from edgec.models.digits import digits_net
from edgec.models.weights import load_weights_, read_weights
from edgec.pipeline.embedded import WEIGHTS

SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.305,), std=(0.376,))


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    """In full precision, so that tests see the same numbers on every machine."""
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="session")
def digits() -> tuple[Samples, Samples]:
    return load_digits_splits()


@pytest.fixture(scope="session")
def few(digits: tuple[Samples, Samples]) -> Samples:
    """30 samples, half of the classes with one."""
    return draw_few(digits[0], total=30, imbalance=100, seed=0)


@pytest.fixture(scope="session")
def ood() -> Images:
    """40 images of soft blobs."""
    rng = np.random.default_rng(0)
    coarse = rng.random((40, 4, 4))
    pixels = (255 * np.kron(coarse, np.ones((1, 2, 2)))).astype(np.uint8)[..., None]
    return Images(pixels=pixels, digests=tuple(digest_image(image) for image in pixels), source="blobs")


@pytest.fixture
def teacher() -> Classifier:
    """A module of its own for every test."""
    module = digits_net()
    load_weights_(module, read_weights(WEIGHTS), source="digits")
    return Classifier(module=module.eval(), input=SPEC, labels=tuple("0123456789"))


@pytest.fixture
def job(teacher: Classifier, few: Samples, fabric: Fabric) -> CompressJob:
    budget = Budget(keep_flops=0.4, steps=4, flip=False)
    return CompressJob(teacher=teacher, few=few, budget=budget, rules=Rules(channel_multiple=4), seed=0, fabric=fabric)


@pytest.fixture
def snapshot() -> Callable[[nn.Module], object]:
    """All that a stage must leave as it was in a module: values, modes, gradients, hooks, device."""

    def take(module: nn.Module) -> object:
        return (
            [
                (name, tensor.device.type, tensor.cpu().numpy().tobytes())
                for name, tensor in module.state_dict().items()
            ],
            [(name, p.requires_grad, p.grad is None, p.is_inference()) for name, p in module.named_parameters()],
            [
                (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
                for name, m in module.named_modules()
            ],
        )

    return take


@pytest.fixture(autouse=True)
def _global_generator() -> None:
    """Tests that make a net draw it alike, in whatever order they run."""
    torch.manual_seed(0)
