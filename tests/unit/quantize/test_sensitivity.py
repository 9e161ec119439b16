"""What rounding costs each class, and which layers are spared for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.progress import Silent
from edgec.quantize.sensitivity import (
    LayerCost,
    changed_by_class,
    divergence_by_class,
    layer_costs,
    layers_to_spare,
    logits_of,
)

RNG = np.random.default_rng(1)
REFERENCE, OTHER = RNG.normal(size=(2, 40, 3)) * 3


def softmax(rows):
    return np.exp(rows) / np.exp(rows).sum(1, keepdims=True)


def test_the_divergence_of_a_class_is_the_mean_over_images_by_how_likely_they_are_of_it():
    p, q = softmax(REFERENCE), softmax(OTHER)
    for cls in range(3):
        images = [(p[i, cls], sum(p[i, j] * np.log(p[i, j] / q[i, j]) for j in range(3))) for i in range(40)]
        wanted = sum(weight * kl for weight, kl in images) / sum(weight for weight, _ in images)
        assert divergence_by_class(REFERENCE, OTHER)[cls] == pytest.approx(wanted)


def test_nothing_changed_costs_nothing():
    np.testing.assert_allclose(divergence_by_class(REFERENCE, REFERENCE), 0, atol=1e-12)
    assert np.nanmax(changed_by_class(REFERENCE, REFERENCE)) == 0


def test_changed_is_the_share_of_a_class_that_gets_another():
    reference, other = np.eye(4)[[0, 0, 0, 1, 2]], np.eye(4)[[0, 1, 2, 1, 0]]
    np.testing.assert_array_equal(changed_by_class(reference, other), [2 / 3, 0, 1, np.nan])


@pytest.fixture
def network(int4_network):
    return int4_network()


def costs_of(network, images):
    reference = logits_of(network.in_floating_point, images)
    return layer_costs(network.layers, lambda _: network, reference, images, progress=Silent())


def test_a_layer_whose_weights_lie_on_the_grid_costs_no_more_than_its_input(network, images):
    costs = {cost.layer.output: cost for cost in costs_of(network, images)}
    layer = costs["b2"].layer
    network.constant(layer.weight).data.copy_(network.rounded_weight(layer))
    assert list(costs) == [layer.output for layer in network.layers]
    assert all((cost.divergence >= 0).all() and cost.divergence.shape == (5,) for cost in costs.values())
    after = next(c for c in costs_of(network, images) if c.layer.output == "b2")
    assert after.worst < 0.1 * costs["b2"].worst


class Layers:
    """Layers with a harm each; classes add up the harm of what is not spared."""

    def __init__(self, layers, harm):
        self.harm = dict(zip((layer.name for layer in layers), harm, strict=True))
        self.costs = [
            LayerCost(layer=layer, divergence=np.array([h, 0.0])) for layer, h in zip(layers, harm, strict=True)
        ]
        self.asked = 0

    def changed(self, spared):
        self.asked += 1
        return np.array([sum(h for name, h in self.harm.items() if name not in spared), 0.0, np.nan])


@pytest.mark.parametrize(
    ("allowed", "wanted"), [(1.0, []), (0.5, [3]), (0.2, [1, 3]), (0.1, [1, 3, 4]), (0.0, [0, 1, 2, 3, 4, 5, 6])]
)
def test_the_costliest_layers_are_spared_until_no_class_pays_too_much(network, allowed, wanted):
    layers = Layers(network.layers, [0.02, 0.3, 0.03, 0.5, 0.1, 0.02, 0.03])
    spared = layers_to_spare(layers.costs, layers.changed, allowed=allowed)
    assert spared == tuple(network.layers[i].name for i in wanted)


def test_a_layer_that_turns_out_not_to_matter_is_given_back(network):
    layers = Layers(network.layers, [0.9, 0.8, 0, 0, 0, 0, 0])
    layers.harm[network.layers[0].name] = 0.0  # alone it does harm, among the others none
    spared = layers_to_spare(layers.costs, layers.changed, allowed=0.1)
    assert spared == (network.layers[1].name,)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7), st.floats(0, 1))
def test_what_is_spared_always_suffices(harm, allowed):
    names = [type("Named", (), {"name": str(i)})() for i in range(7)]
    layers = Layers(names, harm)
    spared = layers_to_spare(layers.costs, layers.changed, allowed=allowed)
    assert np.nanmax(layers.changed(spared)) <= allowed
