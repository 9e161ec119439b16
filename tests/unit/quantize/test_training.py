"""Quantisation-aware training of a small net in four bits."""

from __future__ import annotations

import copy

import pytest
import torch

from edgec.calibrate import load_recipe, observe_ranges, prepare
from edgec.compress.distill import Pool
from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.quantize.config import TrainConfig
from edgec.quantize.network import Network
from edgec.quantize.training import train_


@pytest.fixture
def make(net, target, feeds, calibration):
    """A new network in four bits, the same every time."""
    source, chosen = net(), target("s8s8", "tensorrt", weight_bits=4)
    ranges = observe_ranges(source, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])
    return lambda: Network(prepare(source), ranges, chosen)


@pytest.fixture
def images(calibration, feeds):
    return torch.from_numpy(feeds[0](calibration.pixels))


def train(network, images, *, ood=True, **settings):
    pool = Pool(images=images, chances=torch.full((len(images),), 1 / len(images)))
    reference = network.run(images, only=())["logits"].detach()
    bare = copy.deepcopy(network)
    train_(
        network,
        lambda batch: bare.run(batch, only=())["logits"],
        (pool, pool if ood else None),
        TrainConfig(**{"steps": 30, "shift": 0.0, "flip": False, **settings}),
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        progress=Silent(),
    )
    return reference


def error(network, images, reference):
    with torch.no_grad():
        return (network(images) - reference).square().mean().item()


@pytest.mark.parametrize("settings", [{}, {"steps_learn": False}, {"ood": False}])
def test_training_brings_the_rounded_net_nearer(make, images, settings):
    network = make()
    before = error(network, images, network.run(images, only=())["logits"].detach())
    reference = train(network, images, **settings)
    assert error(network, images, reference) < 0.6 * before


def test_steps_stay_where_they_were_unless_they_are_to_learn(make, images):
    fixed, learned = make(), make()
    train(fixed, images, steps=3, steps_learn=False)
    train(learned, images, steps=3)
    assert not any(factor.any() for factor in fixed.steps)
    assert all(factor.any() for factor in learned.steps)


def test_the_same_seed_gives_the_same_bytes(make, images):
    first, second = make(), make()
    train(first, images, steps=5)
    train(second, images, steps=5)
    assert first.quantizable()[0].SerializeToString() == second.quantizable()[0].SerializeToString()


def test_nothing_learns_any_more_afterwards(make, images):
    network = make()
    train(network, images, steps=2)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_rate_that_is_too_high_is_named(make, images):
    with pytest.raises(ConfigError, match=r"learning_rate = 1e\+30 is too high") as caught:
        train(make(), images, steps=20, learning_rate=1e30)
    assert "quantize.training.learning_rate" in str(caught.value.hint)
