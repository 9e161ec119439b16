"""Rounding weights so that a layer's output changes least on class-balanced images.

A layer is linear, so all that the squared error of its output needs of the images are its inputs' second moments, which
are summed over batches: memory does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from edgec.core.progress import Progress
from edgec.learn.layerwise import BATCH, Weighed

if TYPE_CHECKING:
    from edgec.quantize.network import Layer, Network

__all__ = ["Moments", "compensated", "correct_biases_", "input_moments", "round_weights_"]

POSITIONS = 256
"""Places of a feature map that speak for it in each image: neighbours tell nearly the same."""
DAMPING = 0.01
"""Added to the second moments' diagonal, as a share of its mean: Frantar et al. have the same."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of a layer's input as each output value sees it: patches of a convolution, group by group.

    Attributes:
        mean: float64 [group, patch].
        covariance: float64 [group, patch, patch].
    """

    mean: Float[Tensor, "group patch"]
    covariance: Float[Tensor, "group patch patch"]


def round_weights_(network: Network, seen: Weighed, *, generator: torch.Generator, progress: Progress) -> None:
    """Puts every layer's weights on their grid, those not yet rounded making up for those that are.

    Args:
        network: Its weights change.
        seen: Balanced over classes.
        generator: Draws the places of feature maps that are looked at.
        progress: Told about every batch.
    """
    moments = input_moments(network, seen, generator=generator, progress=progress)
    for layer in network.layers:
        weight = network.constant(layer.weight)
        rows = _rows(weight, layer)
        steps = _rows(network.weight_step(layer).expand_as(weight), layer)
        rounded = compensated(rows, steps, moments[layer.name].covariance, high=network.highest_weight)
        weight.data.copy_(_from_rows(rounded, weight, layer))


def compensated(
    weight: Float[Tensor, "group out patch"],
    step: Float[Tensor, "group out patch"],
    covariance: Float[Tensor, "group patch patch"],
    *,
    high: int,
) -> Float[Tensor, "group out patch"]:
    """Weights on their grid, so that the squared error of what they make of the inputs is small.

    Column after column is rounded, and its error, seen through the inverse H^-1 of the second moments, is taken off the
    columns that are still free: W_j' -= (w_i - q_i) / [H^-1]_ii [H^-1]_ij, with H^-1 by its Cholesky factor.

    Args:
        weight: A row per output channel.
        step: Of each weight's scale.
        covariance: Of the inputs; where a bias takes up the mean error, centred ones.
        high: The largest integer.

    Reference: GPTQ (Frantar et al., arXiv 2210.17323), there for language models and over all images alike.
    """
    size = weight.shape[-1]
    h = covariance.double()
    diagonal = h.diagonal(dim1=1, dim2=2)
    damp = DAMPING * diagonal.mean(1, keepdim=True)
    # An input that is always the same carries no information: its weight is rounded for itself.
    h = h + torch.diag_embed(torch.where(damp > 0, damp, torch.ones_like(damp)).expand_as(diagonal))
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True).to(weight.dtype)
    free, rounded = weight.clone(), torch.empty_like(weight)
    for i in range(size):
        rounded[..., i] = (free[..., i] / step[..., i]).round().clamp(-high, high) * step[..., i]
        error = (free[..., i] - rounded[..., i]) / upper[:, i, i, None]
        free[..., i:] -= error[..., None] * upper[:, None, i, i:]
    return rounded


def correct_biases_(
    network: Network,
    original: Mapping[str, Tensor],
    seen: Weighed,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Takes the mean error that rounding a layer's weights makes out of its bias, on images balanced over classes.

    b' = b + E[(W - W_q) x], with x what the layer reads in the rounded net. Layers without a bias stay as they are.

    Args:
        network: Its biases change.
        original: Each layer's weight W, by layer, as it was before anything was rounded.
        seen: Balanced over classes.
        generator: Draws the places of feature maps that are looked at.
        progress: Told about every batch.

    Reference: Nagel et al., arXiv 1906.04721, section 4.2, with the mean over images in place of batch norm's.
    """
    means: dict[str, Tensor] = {}
    for layer, patches, weight in _inputs(network, seen, generator=generator, progress=progress):
        means[layer.name] = means.get(layer.name, 0) + (weight * patches).sum((0, 3))
    for layer in network.layers:
        if layer.bias is not None:
            lost = original[layer.name] - network.rounded_weight(layer)
            shift = torch.einsum("gop,gp->go", _rows(lost, layer).double(), means[layer.name])
            network.constant(layer.bias).data.add_(shift.flatten())


def input_moments(
    network: Network, seen: Weighed, *, generator: torch.Generator, progress: Progress
) -> dict[str, Moments]:
    """The moments of every layer's input in the rounded net, by layer."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for layer, patches, weight in _inputs(network, seen, generator=generator, progress=progress):
        weighed = weight * patches
        mean, second = weighed.sum((0, 3)), torch.einsum("ngpl,ngql->gpq", weighed, patches)
        before = sums.get(layer.name)
        sums[layer.name] = (mean, second) if before is None else (before[0] + mean, before[1] + second)
    return {
        name: Moments(mean=mean, covariance=second - mean[..., :, None] * mean[..., None, :])
        for name, (mean, second) in sums.items()
    }


def _inputs(
    network: Network, seen: Weighed, *, generator: torch.Generator, progress: Progress
) -> Iterator[tuple[Layer, Float[Tensor, "n group patch place"], Tensor]]:
    """What every layer reads in the rounded net, batch by batch, and what each place of an image counts.

    In double precision: mean and second moments are sums of it, and one is taken off the other.
    """
    wanted = {layer.input for layer in network.layers}
    total = math.ceil(len(seen.images) / BATCH)
    for images, shares in progress.track(seen.batches(BATCH), total=total, what="reading layers' inputs"):
        with torch.no_grad():
            made = network.run(images, wanted=wanted)
        for layer in network.layers:
            patches = _patches(network.rounded(layer.input, made[layer.input]), layer, network)
            patches = _drawn(patches, generator).double()
            # Attention folds images into other axes: then every value of the batch counts the same.
            one = shares if len(patches) == len(shares) else (shares.sum() / len(patches)).expand(len(patches))
            yield layer, patches, one[:, None, None, None] / patches.shape[-1]


def _patches(x: Tensor, layer: Layer, network: Network) -> Float[Tensor, "n group patch place"]:
    """What each output value of a layer sees, at each of its places."""
    if layer.operator == "Conv":
        weight = network.constant(layer.weight)
        pads, strides, dilations = layer.window
        unfolded = F.unfold(F.pad(x, pads), tuple(weight.shape[2:]), dilations, 0, strides)
        return unfolded.reshape(len(x), layer.groups, -1, unfolded.shape[-1])
    return x.reshape(len(x), 1, -1, x.shape[-1]).transpose(2, 3)


def _drawn(
    patches: Float[Tensor, "n group patch place"], generator: torch.Generator
) -> Float[Tensor, "n group patch place"]:
    """Some places of each image, drawn at random: evenly spaced ones meet the same columns again and again."""
    count, places = patches.shape[0], patches.shape[-1]
    if places <= POSITIONS:
        return patches
    drawn = torch.rand(count, places, generator=generator).argsort(dim=1)[:, None, None, :POSITIONS]
    return patches.gather(3, drawn.to(patches.device).expand(*patches.shape[:3], -1))


def _rows(weight: Tensor, layer: Layer) -> Float[Tensor, "group out patch"]:
    """A layer's weight with a row per output channel, group by group."""
    if layer.operator == "Conv":
        return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1)
    return (weight if layer.transposed else weight.T)[None]


def _from_rows(rows: Tensor, weight: Tensor, layer: Layer) -> Tensor:
    if layer.operator == "Conv":
        return rows.reshape(weight.shape)
    return rows[0] if layer.transposed else rows[0].T
