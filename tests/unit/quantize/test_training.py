"""Quantisation-aware training of a small net in four bits."""

from __future__ import annotations

import copy

import pytest
import torch

from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.learn.batches import Pool
from edgec.learn.views import View
from edgec.quantize.config import TrainConfig
from edgec.quantize.network import Network
from edgec.quantize.training import train_


def train(network, images, *, ood=True, view=None, teacher=None, **settings):
    pool = Pool(images=images, chances=torch.full((len(images),), 1 / len(images)))
    reference = network.in_floating_point(images).detach()
    bare = copy.deepcopy(network)
    train_(
        network,
        teacher or bare.in_floating_point,
        (pool, pool if ood else None),
        TrainConfig(**{"steps": 30, "shift": 0.0, "flip": False, **settings}),
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        progress=Silent(),
        view=view,
    )
    return reference


def error(network, images, reference):
    with torch.no_grad():
        return (network(images) - reference).square().mean().item()


@pytest.mark.parametrize("settings", [{}, {"steps_learn": False}, {"ood": False}])
def test_training_brings_the_rounded_net_nearer(int4_network, images, settings):
    network = int4_network()
    before = error(network, images, network.in_floating_point(images).detach())
    reference = train(network, images, **settings)
    assert error(network, images, reference) < 0.6 * before


def test_steps_stay_where_they_were_unless_they_are_to_learn(int4_network, images):
    fixed, learned = int4_network(), int4_network()
    train(fixed, images, steps=3, steps_learn=False)
    train(learned, images, steps=3)
    assert not any(factor.any() for factor in fixed.steps)
    assert all(factor.any() for factor in learned.steps)


def test_the_same_seed_gives_the_same_bytes(int4_network, images):
    first, second = int4_network(), int4_network()
    train(first, images, steps=5)
    train(second, images, steps=5)
    assert first.quantizable()[0].SerializeToString() == second.quantizable()[0].SerializeToString()


def test_nothing_learns_any_more_afterwards(int4_network, images):
    network = int4_network()
    train(network, images, steps=2)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_rounded_net_sees_changed_images_and_its_teachers_clean_ones(int4_network, images, monkeypatch):
    network, shown, runs = int4_network(), [], []
    channels = images.shape[1]
    view = View(robust="noise", share=1.0, scale=(1 / 255,) * channels, shift=(0.0,) * channels)
    bare, run = copy.deepcopy(network), Network.run

    def spied(self, given, **how):
        runs.append((self is network, given.clone()))
        return run(self, given, **how)

    def teacher(batch):
        shown.append(batch.clone())
        with monkeypatch.context() as unspied:
            unspied.setattr(Network, "run", run)
            return bare.in_floating_point(batch)

    monkeypatch.setattr(Network, "run", spied)
    train(network, images, steps=2, view=view, teacher=teacher)
    before, after = ([given for own, given in runs if own is of and len(given) > 2] for of in (False, True))
    assert len(shown) == 2
    for clean, reference, seen in zip(shown, before[-2:], after[-2:], strict=True):
        assert torch.equal(clean, reference)
        assert not torch.equal(clean, seen)


def test_a_rate_that_is_too_high_is_named(int4_network, images):
    with pytest.raises(ConfigError, match=r"learning_rate = 1e\+30 is too high") as caught:
        train(int4_network(), images, steps=20, learning_rate=1e30)
    assert "quantize.training.learning_rate" in str(caught.value.hint)
