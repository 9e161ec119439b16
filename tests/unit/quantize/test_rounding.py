"""Compensated rounding and bias correction against slow references, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgec.core.progress import Silent
from edgec.learn.layerwise import Weighed
from edgec.quantize import rounding
from edgec.quantize.rounding import compensated, correct_biases_, input_moments, round_weights_

HIGH = 7


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network(int4_network):
    return int4_network()


@pytest.fixture
def seen(images):
    shares = torch.rand(len(images), generator=torch.Generator().manual_seed(0))
    return Weighed(images=images, shares=shares / shares.sum())


def problem(seed, inputs=12, outputs=5):
    """Weights, steps and second moments of inputs that go together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, inputs)) @ rng.normal(size=(inputs, inputs))
    weight = rng.normal(size=(1, outputs, inputs)).astype(np.float32)
    step = np.broadcast_to(np.abs(weight).max(2, keepdims=True) / HIGH, weight.shape).copy()
    covariance = (x.T @ x / len(x)).astype(np.float32)[None]
    return torch.from_numpy(weight), torch.from_numpy(step), torch.from_numpy(covariance)


def error(weight, rounded, covariance):
    lost = (weight - rounded).double()
    return torch.einsum("gop,gpq,goq->", lost, covariance.double(), lost).item()


def nearest(weight, step):
    return (weight / step).round().clamp(-HIGH, HIGH) * step


@pytest.mark.parametrize("seed", range(5))
def test_compensation_loses_less_of_the_output_than_the_nearest_integers_do(seed):
    weight, step, covariance = problem(seed)
    rounded = compensated(weight, step, covariance, high=HIGH)
    assert error(weight, rounded, covariance) < 0.8 * error(weight, nearest(weight, step), covariance)


def test_compensation_stays_on_the_grid():
    weight, step, covariance = problem(9)
    integers = compensated(weight, step, covariance, high=HIGH) / step
    torch.testing.assert_close(integers, integers.round(), atol=1e-4, rtol=0)
    assert integers.abs().max() <= HIGH + 1e-4


def test_inputs_that_do_not_go_together_leave_nothing_to_make_up_for():
    weight, step, _ = problem(2)
    torch.testing.assert_close(compensated(weight, step, torch.eye(12)[None], high=HIGH), nearest(weight, step))


def test_an_input_that_never_comes_is_rounded_for_itself():
    weight, step, covariance = problem(2)
    silent = torch.zeros_like(covariance)
    torch.testing.assert_close(compensated(weight, step, silent, high=HIGH), nearest(weight, step))


def test_compensation_is_the_step_by_step_solution_of_optimal_brain_surgery():
    weight, step, covariance = problem(4, inputs=6)
    h = covariance[0].double().numpy()
    h = h + 0.01 * np.diag(h).mean() * np.eye(6)
    free, rounded = weight[0].double().numpy().copy(), np.zeros((5, 6))
    for i in range(6):
        # Inputs i, i + 1, ... are free: the best they can do about what rounding input i loses.
        inverse = np.linalg.inv(h[i:, i:])
        rounded[:, i] = nearest(torch.from_numpy(free[:, i]), step[0, :, i].double()).numpy()
        free[:, i:] -= np.outer((free[:, i] - rounded[:, i]) / inverse[0, 0], inverse[0])
    found = compensated(weight.double(), step.double(), covariance, high=HIGH)
    np.testing.assert_allclose(found[0], rounded, atol=1e-9)


def test_moments_are_those_of_all_patches_under_the_images_weights(network, seen):
    moments = input_moments(network, seen, generator=drawn(), progress=Silent())
    layer = next(layer for layer in network.layers if layer.output == "b1")
    with torch.no_grad():
        read = network.rounded(layer.input, network.run(seen.images, wanted=[layer.input])[layer.input]).numpy()
    padded = np.pad(read, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = [
        (share, padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].ravel())
        for n, share in enumerate(seen.shares.numpy())
        for i in range(4)
        for j in range(4)
    ]
    mean = sum(share / 16 * patch.astype(float) for share, patch in patches)
    second = sum(share / 16 * np.outer(patch, patch).astype(float) for share, patch in patches)
    np.testing.assert_allclose(moments[layer.name].mean[0], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments[layer.name].covariance[0], second - np.outer(mean, mean), rtol=1e-3, atol=1e-4)


def test_the_whole_net_loses_less_by_compensation(network, seen):
    with torch.no_grad():
        wanted = network.run(seen.images, only=())["logits"]
        before = (network(seen.images) - wanted).square().mean()
        round_weights_(network, seen, generator=drawn(), progress=Silent())
        after = (network(seen.images) - wanted).square().mean()
    assert after < before


def test_corrected_biases_leave_no_mean_error_of_the_first_layer(network, seen):
    first = network.layers[0]
    original = {layer.name: network.constant(layer.weight).clone() for layer in network.layers}
    bias = network.constant(first.bias).clone()
    correct_biases_(network, original, seen, generator=drawn(), progress=Silent())
    with torch.no_grad():
        read = network.rounded(first.input, seen.images)
        lost = torch.nn.functional.conv2d(read, original[first.name] - network.rounded_weight(first), padding=1)
        wanted = (seen.shares[:, None] * lost.mean((2, 3))).sum(0)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(network.constant(first.bias) - bias, wanted, rtol=1e-3, atol=1e-5)


def test_drawn_places_meet_the_borders_as_often_as_they_are_there(network, seen, monkeypatch):
    whole = input_moments(network, seen, generator=drawn(), progress=Silent())
    monkeypatch.setattr(rounding, "POSITIONS", 16)  # of 8 x 8 places: evenly spaced ones lie in two columns
    few = input_moments(network, seen, generator=drawn(), progress=Silent())
    layers = [layer for layer in network.layers if layer.output in ("stem", "a1", "a2", "b1")]
    for layer in layers:
        wanted, found = whole[layer.name].mean, few[layer.name].mean
        # 37 images of 16 places each: a mean of values as spread as these strays by 1 / sqrt(592) = 4 % of the spread.
        spread = whole[layer.name].covariance.diagonal(dim1=1, dim2=2).sqrt()
        assert ((found - wanted).abs() <= 0.16 * spread + 1e-6).all()
        assert ((found - wanted).abs().mean() / spread.mean()) < 0.05


def test_the_same_seed_draws_the_same_places(network, seen, monkeypatch):
    monkeypatch.setattr(rounding, "POSITIONS", 16)
    one, two, other = (input_moments(network, seen, generator=drawn(seed), progress=Silent()) for seed in (1, 1, 2))
    name = network.layers[0].name
    assert torch.equal(one[name].covariance, two[name].covariance)
    assert not torch.equal(one[name].covariance, other[name].covariance)
