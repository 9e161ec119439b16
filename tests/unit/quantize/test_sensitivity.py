"""What rounding costs each class, and which layers are spared for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.progress import Silent
from edgec.quantize.network import Part
from edgec.quantize.sensitivity import (
    PartCost,
    changed_by_class,
    divergence_by_class,
    logits_of,
    operators_of,
    part_costs,
    parts_to_spare,
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
    return part_costs(network.parts, lambda _: network, reference, images, progress=Silent())


def layer_of(network, output):
    return next(layer for layer in network.layers if layer.output == output)


def cost_of(costs, name):
    return next(cost for cost in costs if cost.part.name == name and cost.part.is_layer)


def test_a_layer_whose_weights_lie_on_the_grid_costs_no_more_than_its_input(network, images):
    costs, layer = costs_of(network, images), layer_of(network, "b2")
    network.constant(layer.weight).data.copy_(network.rounded_weight(layer))
    assert [cost.part for cost in costs] == list(network.parts)
    assert all((cost.divergence >= 0).all() and cost.divergence.shape == (5,) for cost in costs)
    assert cost_of(costs_of(network, images), layer.name).worst < 0.1 * cost_of(costs, layer.name).worst


def test_activations_that_no_layer_rounds_are_parts_of_their_own(network):
    loose = {part.name: part.floats for part in network.parts if not part.is_layer}
    names = {node.output[0]: node.name for node in network.model.graph.node}
    assert set(loose) == {"x", "down"}  # the shortcuts, which additions read
    assert set(loose["x"]) == {names["a1"], names["a_sum"]}
    assert [part.name for part in network.parts if part.is_layer] == [layer.name for layer in network.layers]


def test_an_activation_alone_is_rounded(network, images):
    part = next(part for part in network.parts if part.name == "down")
    with torch.no_grad():
        found = network.run(images, only=(), loose=("down",), wanted=["down", "b_sum", "b2"])
        bare = network.run(images, only=(), wanted=["b_sum", "b2"])
        assert torch.equal(network.alone(part, images), found[network.output])
    assert torch.equal(found["b2"], bare["b2"])
    torch.testing.assert_close(found["b_sum"], bare["b2"] + network.rounded("down", found["down"]))


class Parts:
    """Parts with a harm each; classes add up the harm of what is not spared."""

    def __init__(self, harm):
        parts = [Part(name=str(i), operator="Conv", floats=(f"node {i}",), is_layer=True) for i in range(len(harm))]
        self.harm = {part.floats[0]: h for part, h in zip(parts, harm, strict=True)}
        self.costs = [PartCost(part=part, divergence=np.array([h, 0.0])) for part, h in zip(parts, harm, strict=True)]

    def changed(self, floats):
        return np.array([sum(h for name, h in self.harm.items() if name not in floats), 0.0, np.nan])

    def spared(self, allowed):
        return parts_to_spare(self.costs, self.changed, allowed=allowed)


@pytest.mark.parametrize(
    ("allowed", "wanted"), [(1.0, []), (0.5, [3]), (0.2, [1, 3]), (0.1, [1, 3, 4]), (0.0, [0, 1, 2, 3, 4, 5, 6])]
)
def test_the_costliest_parts_are_spared_until_no_class_pays_too_much(allowed, wanted):
    spared = Parts([0.02, 0.3, 0.03, 0.5, 0.1, 0.02, 0.03]).spared(allowed)
    assert [part.name for part in spared] == list(map(str, wanted))


def test_a_part_that_turns_out_not_to_matter_is_given_back():
    parts = Parts([0.9, 0.8, 0, 0, 0, 0, 0])
    parts.harm["node 0"] = 0.0  # alone it does harm, among the others none
    assert [part.name for part in parts.spared(0.1)] == ["1"]


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7), st.floats(0, 1))
def test_what_is_spared_always_suffices(harm, allowed):
    parts = Parts(harm)
    assert np.nanmax(parts.changed(operators_of(parts.spared(allowed)))) <= allowed


def test_an_operator_that_two_parts_need_is_named_once():
    two = [Part(name=str(i), operator="Conv", floats=("a", "b"), is_layer=True) for i in range(2)]
    assert operators_of(two) == ("a", "b")
