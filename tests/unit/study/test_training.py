"""Training: it learns, repeats itself, leaves its input alone, and distils as in the study."""

from __future__ import annotations

import warnings
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.errors import ConfigError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.pipeline.accelerator import Accelerator, open_fabric
from edgec.study import training as taught
from edgec.study.config import Training
from edgec.study.training import Lesson, train

SPEC = InputSpec(height=4, width=4, channels=1, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def fabric() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_fabric(Accelerator.CPU)


def lesson(*, n: int = 33, steps: int = 40, **training: Any) -> Lesson:
    """Dark and bright images, to be told apart."""
    labels = np.arange(n) % 2
    pixels = np.random.default_rng(0).integers(0, 100, (n, 4, 4, 1)) + 150 * labels[:, None, None, None]
    samples = Samples(
        pixels=pixels.astype(np.uint8),
        digests=tuple(map(str, range(n))),
        source="here",
        labels=labels,
        classes=("dark", "bright"),
    )
    given = Training.model_validate({"batch_size": 8, "steps": steps, **training})
    return Lesson(samples=samples, input=SPEC, training=given, shift=0.0, flip=False, seed=0)


def net() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(16, 2)
        )


def trained(module: nn.Module, given: Lesson, fabric: Any, **options: Any) -> nn.Module:
    return train(module, given, fabric=fabric, progress=Silent(), **options)


def logits(module: nn.Module, given: Lesson) -> torch.Tensor:
    with torch.no_grad():
        return module(taught.to_tensor(given.samples.decoded(), SPEC))


def test_it_learns(fabric: Any) -> None:
    given = lesson()
    found = logits(trained(net(), given, fabric), given).argmax(1)
    assert float((found == torch.as_tensor(given.samples.labels)).float().mean()) == 1


def test_the_same_seed_gives_the_same_net_and_the_given_one_stays(fabric: Any) -> None:
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    one, two = (trained(module, lesson(), fabric) for _ in range(2))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training


def test_every_image_is_seen_once_an_epoch_and_one_that_is_left_over_beside_another() -> None:
    given = lesson(n=33, epochs=2)
    assert given.steps == 10
    drawn = list(islice(taught._batches(given), given.steps))
    assert [len(labels) for _, labels in drawn] == [8, 8, 8, 8, 2] * 2
    images = torch.cat([images for images, _ in drawn[:5]])
    assert len(images.flatten(1).unique(dim=0)) == 33


def test_steps_do_not_depend_on_how_many_images_there_are() -> None:
    assert lesson(n=33).steps == lesson(n=8).steps == 40


def test_a_learning_rate_that_is_too_high_is_one_error(fabric: Any) -> None:
    with pytest.raises(ConfigError, match=r"a weight became NaN or infinite: a learning rate of 1e\+30 is too high"):
        trained(net(), lesson(learning_rate=1e30), fabric)
