"""DoReFa: levels and gradients against formulas in NumPy, and which layers it leaves as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgec.core.errors import UnsupportedError
from edgec.models.cifar_resnet import resnet20
from edgec.quantize.dorefa import dorefa, dorefa_activations, dorefa_weights, quantized_layers

FINITE = st.floats(-3, 3, width=32)
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def reference_levels(bits: int) -> np.ndarray:
    return np.arange(2**bits) / (2**bits - 1)


def reference_weights(weight: np.ndarray, bits: int) -> np.ndarray:
    """The nearest level by search, where the code rounds."""
    squashed = np.tanh(weight.astype(np.float64))
    share = squashed / (2 * np.abs(squashed).max()) + 0.5
    levels = reference_levels(bits)
    return 2 * levels[np.abs(share[..., None] - levels).argmin(-1)] - 1


def surrogate(weight: np.ndarray) -> np.ndarray:
    """What is left of the formula when rounding is taken for the identity, as its gradient does."""
    squashed = np.tanh(weight)
    return squashed / np.abs(squashed).max()


def net(*middle: nn.Module) -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3), *middle, *head).eval()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_the_nearest_levels(bits: int) -> None:
    weight = np.random.default_rng(bits).normal(0, 0.3, (6, 4, 3, 3)).astype(np.float32)
    got = dorefa_weights(torch.as_tensor(weight), bits).numpy()
    # float32 against float64; a weight half-way between two levels, which might go either way, is not among these
    np.testing.assert_allclose(got, reference_weights(weight, bits), atol=1e-6)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_activations_are_clipped_and_rounded_to_the_nearest_level(bits: int) -> None:
    x = np.random.default_rng(bits).normal(0.5, 0.6, 1000).astype(np.float32)
    levels = reference_levels(bits)
    expected = levels[np.abs(np.clip(x, 0, 1)[:, None] - levels).argmin(-1)]
    np.testing.assert_allclose(dorefa_activations(torch.as_tensor(x), bits).numpy(), expected, atol=1e-6)  # float32


@settings(max_examples=50, deadline=None)
@given(values=st.lists(FINITE, min_size=1, max_size=600), bits=st.integers(2, 8))
def test_there_are_at_most_as_many_levels_as_bits_can_name(values: list[float], bits: int) -> None:
    weight = torch.tensor(values)
    rounded = dorefa_weights(weight, bits)
    assert len(rounded.unique()) <= 2**bits
    assert len(dorefa_activations(weight, bits).unique()) <= 2**bits
    assert float(rounded.abs().max()) <= 1


def test_many_values_use_all_levels() -> None:
    x = torch.linspace(-1, 1, 5000)
    assert len(dorefa_weights(x, 3).unique()) == len(dorefa_activations(x, 3).unique()) == 8


def test_the_largest_weight_becomes_one_whatever_its_size() -> None:
    weight = torch.tensor([0.001, -0.0005, 0.0001])
    assert dorefa_weights(weight, 4)[0] == 1


def test_weights_that_are_all_zero_stay_finite() -> None:
    weight = torch.zeros(3, requires_grad=True)
    dorefa_weights(weight, 3).sum().backward()
    assert weight.grad is not None
    assert bool(torch.isfinite(dorefa_weights(weight, 3)).all())


def test_the_weights_gradient_is_that_of_the_formula_without_rounding() -> None:
    rng = np.random.default_rng(0)
    value, towards = rng.normal(0, 0.5, 20), rng.normal(size=20)
    weight = torch.tensor(value, requires_grad=True)
    (dorefa_weights(weight, 3) * torch.tensor(towards)).sum().backward()
    step = 1e-6
    slopes = [
        (towards @ surrogate(value + step * unit) - towards @ surrogate(value - step * unit)) / (2 * step)
        for unit in np.eye(20)
    ]
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), slopes, atol=1e-8)  # central differences, error of the step squared


def test_activations_pass_their_gradient_on_where_they_are_not_clipped() -> None:
    x = torch.tensor([-0.5, 0.1, 0.4, 0.9, 1.5], requires_grad=True)
    (dorefa_activations(x, 2) * torch.tensor([1.0, 2, 3, 4, 5])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 0]


def test_every_layer_but_the_first_and_the_last_is_quantised() -> None:
    module = resnet20().eval()
    inner = quantized_layers(module, IMAGES)
    everything = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert inner == everything[1:-1]
    assert len(inner) == 18
    quantized = dorefa(module, IMAGES, weight_bits=4, activation_bits=8)
    for name in everything:
        weight, was = (net.get_submodule(name).weight for net in (quantized, module))
        assert isinstance(weight, torch.Tensor)
        assert isinstance(was, torch.Tensor)
        if name in inner:
            assert len(weight.unique()) <= 16
        else:
            assert torch.equal(weight, was)


def test_what_layers_read_is_rounded_and_the_first_one_reads_the_image() -> None:
    module = net(nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    seen: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            seen[name] = x.detach()
            return convolve(x)

        convolve = quantized.get_submodule(name).forward
        return forward

    quantized = dorefa(module, IMAGES, weight_bits=2, activation_bits=2)
    for name in ("0", "2"):
        quantized.get_submodule(name).forward = watch(name)
    quantized(IMAGES)
    assert torch.equal(seen["0"], IMAGES)
    assert set(seen["2"].unique().tolist()) <= {float(np.float32(level)) for level in reference_levels(2)}


def test_the_given_net_stays_as_it_is() -> None:
    module = net(nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    logits = module(IMAGES)
    dorefa(module, IMAGES, weight_bits=2, activation_bits=2)
    assert module.state_dict().keys() == state.keys()
    assert torch.equal(module(IMAGES), logits)
    assert not module.training


def test_quantised_weights_learn() -> None:
    quantized = dorefa(net(nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()), IMAGES, weight_bits=3, activation_bits=3)
    quantized(IMAGES).square().sum().backward()
    gradients = [parameter.grad for parameter in quantized.parameters()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.LeakyReLU(), nn.BatchNorm2d(4)])
def test_a_layer_that_reads_negative_values_is_refused_by_name(activation: nn.Module) -> None:
    module = net(activation, nn.Conv2d(4, 4, 3), nn.ReLU())
    with pytest.raises(UnsupportedError, match=r"layer '2' reads values below zero, down to -\d.*a ReLU before it"):
        dorefa(module, IMAGES, weight_bits=4, activation_bits=8)


def test_weights_of_another_kind_are_refused_by_name() -> None:
    module = net(nn.ReLU(), nn.ConvTranspose2d(4, 4, 3), nn.ReLU())
    with pytest.raises(UnsupportedError, match=r"layer '2' \(ConvTranspose2d\) has weights that are neither a conv"):
        dorefa(module, IMAGES, weight_bits=4, activation_bits=8)


def test_a_net_of_two_layers_has_nothing_to_quantise() -> None:
    with pytest.raises(UnsupportedError, match="2 layers with weights: DoReFa leaves the first and the last"):
        dorefa(net(nn.ReLU()), IMAGES, weight_bits=4, activation_bits=8)
