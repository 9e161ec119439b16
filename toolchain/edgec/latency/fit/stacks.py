"""Pieces of nets as small graphs have them: single steps, and stacks of several kinds of step after one another.

Steps of an image stand behind a convolution of each pixel, as in nets: runtimes keep an image as convolutions want it,
and an operator that wants it otherwise costs a copy, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from edgec.latency.fit.builder import GraphBuilder

__all__ = ["STACKS", "STEPS", "VECTOR_STACKS", "VECTOR_STEPS", "Image", "Piece"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a piece is given: an image [1, channels, size, size], or vectors [1, size, channels]."""

    channels: int
    size: int


Piece: TypeAlias = Callable[[GraphBuilder, str, Image], str]
"""Adds to a graph, behind a tensor; returns what it makes of it."""


def _mixed(step: Piece) -> Piece:
    """A step behind a convolution of each pixel."""

    def mixed(builder: GraphBuilder, tensor: str, image: Image) -> str:
        return step(builder, builder.conv(tensor, image.channels, image.channels), image)

    return mixed


def _shortcut(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Past a convolution, which takes the addition along in floating point."""
    return builder.apply("Add", builder.conv(tensor, image.channels, image.channels), tensor)


def _max_pool(builder: GraphBuilder, tensor: str, _: Image) -> str:
    return builder.apply("MaxPool", tensor, kernel_shape=[3, 3], pads=[1] * 4)


def _average_pool(builder: GraphBuilder, tensor: str, _: Image) -> str:
    return builder.apply("AveragePool", tensor, kernel_shape=[3, 3], pads=[1] * 4)


def _hard_swish(builder: GraphBuilder, tensor: str, _: Image) -> str:
    """A value x times min(max(x / 6 + 1/2, 0), 1); in int8 two operators."""
    if not builder.int8:
        return builder.apply("HardSwish", tensor)
    return builder.apply("Mul", tensor, builder.apply("HardSigmoid", tensor, alpha=1 / 6))


def _swish(builder: GraphBuilder, tensor: str, _: Image) -> str:
    """A value times its sigmoid, SiLU by another name."""
    return builder.apply("Mul", tensor, builder.apply("Sigmoid", tensor))


def _gate(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Squeeze and excitation (Hu et al., arXiv 1709.01507): channels are scaled by what their means say."""
    inside = max(image.channels // 4, 8)
    if builder.int8:
        mean = builder.apply("GlobalAveragePool", tensor)
    else:
        mean = builder.apply("ReduceMean", tensor, builder.constant(np.array([2, 3])), keepdims=1)
    squeezed = builder.relu(builder.conv(mean, image.channels, inside))
    return builder.apply("Mul", tensor, builder.apply("Sigmoid", builder.conv(squeezed, inside, image.channels)))


def _batch_norm(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """A normalisation that no convolution takes up, and a ReLU, as in DenseNets."""
    values = (builder.constant(make(image.channels, np.float32)) for make in (np.ones, np.zeros, np.zeros, np.ones))
    return builder.relu(builder.apply("BatchNormalization", tensor, *values))


def _join(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Channels taken apart and put together the other way round."""
    half = builder.constant(np.array([image.channels // 2] * 2))
    one, other = (builder.rounded(part) for part in builder.append("Split", tensor, half, outputs=2, axis=1))
    return builder.apply("Concat", other, one, axis=1)


def _norm(builder: GraphBuilder, tensor: str, image: Image) -> str:
    ones, zeros = (builder.constant(make(image.channels, np.float32)) for make in (np.ones, np.zeros))
    return builder.apply("LayerNormalization", tensor, ones, zeros, axis=-1)


def _gelu(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """A bias, and x * (1 + erf(x / sqrt 2)) / 2."""
    biased = builder.append("Add", tensor, builder.constant(np.zeros(image.channels, np.float32)))[0]
    return builder.apply("Gelu", biased)


def _sum(builder: GraphBuilder, tensor: str, _: Image) -> str:
    return builder.apply("Add", tensor, tensor)


def _softmax(builder: GraphBuilder, tensor: str, _: Image) -> str:
    return builder.append("Softmax", tensor, axis=-1)[0]


def _plain(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Convolutions and poolings on four sizes of image, as in VGG."""
    inward = image.channels
    for width in (2 * inward, 4 * inward):
        tensor = builder.relu(builder.conv(tensor, inward, width, kernel=3))
        tensor = builder.relu(builder.conv(tensor, width, width, kernel=3))
        tensor = builder.apply("MaxPool", tensor, kernel_shape=[2, 2], strides=[2, 2])
        inward = width
    return tensor


def _residual(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Four sizes of image, on each two pairs of convolutions past which a shortcut leads (He et al., CVPR 2016)."""
    inward = image.channels
    for width in (inward, 2 * inward, 4 * inward, 8 * inward):
        for number in range(2):
            stride = 2 if width > inward else 1
            branch = builder.relu(builder.conv(tensor, inward, width, kernel=3, stride=stride))
            branch = builder.conv(branch, width, width, kernel=3)
            past = tensor if number or stride == 1 else builder.conv(tensor, inward, width, stride=2)
            tensor = builder.relu(builder.apply("Add", branch, past))
            inward = width
    return tensor


def _bottleneck(
    builder: GraphBuilder,
    tensor: str,
    image: Image,
    *,
    groups_of: int | None = None,
    wider: int = 4,
    gates: bool = False,
) -> str:
    """Three sizes of image, on each two bottlenecks with a shortcut; in groups and with gates as in RegNets."""
    inward = image.channels
    for step, inside in enumerate((image.channels, 2 * image.channels, 4 * image.channels)):
        outward = inside * wider
        for number in range(2):
            stride = 2 if step and not number else 1
            groups = inside // groups_of if groups_of else 1
            branch = builder.relu(builder.conv(tensor, inward, inside))
            branch = builder.conv(branch, inside, inside, kernel=3, stride=stride, groups=groups)
            branch = builder.relu(branch)
            if gates:
                branch = _gate(builder, branch, Image(channels=inside, size=image.size >> step))
            branch = builder.conv(branch, inside, outward)
            past = tensor if number else builder.conv(tensor, inward, outward, stride=stride)
            tensor = builder.relu(builder.apply("Add", branch, past))
            inward = outward
    return tensor


def _inverted(
    builder: GraphBuilder, tensor: str, image: Image, *, activation: Piece | None = None, gates: bool = False
) -> str:
    """Four sizes of image, on each two inverted residuals, as in MobileNets and EfficientNets."""
    inward, size = image.channels, image.size
    for width, kernel in ((inward, 3), (2 * inward, 5), (4 * inward, 3), (8 * inward, 5)):
        for stride in (2, 1):
            inside = Image(channels=6 * inward, size=size)
            branch = _activated(builder, builder.conv(tensor, inward, inside.channels), inside, activation)
            size //= stride
            inside = Image(channels=6 * inward, size=size)
            branch = builder.conv(
                branch, inside.channels, inside.channels, kernel=kernel, stride=stride, groups=inside.channels
            )
            branch = _activated(builder, branch, inside, activation)
            branch = _gate(builder, branch, inside) if gates else branch
            branch = builder.conv(branch, inside.channels, width)
            tensor = builder.apply("Add", branch, tensor) if stride == 1 else branch
            inward = width
    return tensor


def _activated(builder: GraphBuilder, tensor: str, image: Image, activation: Piece | None) -> str:
    return activation(builder, tensor, image) if activation else builder.relu(tensor)


def _growing(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Channels that are added to those that are there, as in DenseNets."""
    inward, new = image.channels, 32
    for _ in range(8):
        normed = _batch_norm(builder, tensor, Image(channels=inward, size=image.size))
        mixed = builder.relu(builder.conv(normed, inward, 4 * new))
        tensor = builder.apply("Concat", tensor, builder.conv(mixed, 4 * new, new, kernel=3), axis=1)
        inward += new
    return tensor


def _shuffled(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Half of the channels through convolutions, then channels of both halves in turns, as in ShuffleNets."""
    width = image.channels // 2
    half = builder.constant(np.array([width, width]))
    apart = builder.constant(np.array([0, 2, width, image.size, image.size]))
    whole = builder.constant(np.array([0, 2 * width, image.size, image.size]))
    for _ in range(4):
        kept, branch = (builder.rounded(part) for part in builder.append("Split", tensor, half, outputs=2, axis=1))
        branch = builder.relu(builder.conv(branch, width, width))
        branch = builder.conv(branch, width, width, kernel=3, groups=width)
        branch = builder.relu(builder.conv(branch, width, width))
        (joined,) = builder.append("Reshape", builder.apply("Concat", kept, branch, axis=1), apart)
        turned = builder.apply("Transpose", builder.rounded(joined), perm=[0, 2, 1, 3, 4])
        tensor = builder.rounded(builder.append("Reshape", turned, whole)[0])
    return tensor


def _perceptron(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Four times the width and back, past a shortcut."""
    width = image.channels
    wide = builder.matmul(_norm(builder, tensor, image), width, 4 * width)
    narrow = builder.matmul(builder.apply("Gelu", wide), 4 * width, width)
    return builder.apply("Add", tensor, builder.rounded(narrow))


def _attention(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """Heads of 32 channels, past a shortcut; their products stay in floating point."""
    width, heads = image.channels, image.channels // 32
    mixed = builder.matmul(_norm(builder, tensor, image), width, 3 * width)
    shape = builder.constant(np.array([0, image.size, heads, 32]))
    parts = builder.append("Split", mixed, builder.constant(np.array([width] * 3)), outputs=3, axis=-1)
    query, key, value = (builder.append("Reshape", part, shape)[0] for part in parts)
    query, value = (builder.append("Transpose", part, perm=[0, 2, 1, 3])[0] for part in (query, value))
    (key,) = builder.append("Transpose", key, perm=[0, 2, 3, 1])
    scaled = builder.append("Mul", query, builder.constant(np.array(32**-0.5, np.float32)))[0]
    weights = _softmax(builder, builder.append("MatMul", scaled, key)[0], image)
    (seen,) = builder.append("Transpose", builder.append("MatMul", weights, value)[0], perm=[0, 2, 1, 3])
    whole = builder.constant(np.array([0, image.size, width]))
    joined = builder.rounded(builder.append("Reshape", seen, whole)[0])
    return builder.apply("Add", tensor, builder.rounded(builder.matmul(joined, width, width)))


def _transformer(builder: GraphBuilder, tensor: str, image: Image) -> str:
    for _ in range(3):
        tensor = _perceptron(builder, _attention(builder, tensor, image), image)
    return tensor


def _convnext(builder: GraphBuilder, tensor: str, image: Image) -> str:
    """A depthwise convolution, and a perceptron for each pixel, past a shortcut (Liu et al., CVPR 2022)."""
    width = image.channels
    for _ in range(3):
        seen = builder.conv(tensor, width, width, kernel=7, groups=width)
        pixels = _norm(builder, builder.apply("Transpose", seen, perm=[0, 2, 3, 1]), image)
        wide = builder.matmul(pixels, width, 4 * width)
        narrow = builder.matmul(builder.apply("Gelu", wide), 4 * width, width)
        turned = builder.apply("Transpose", builder.rounded(narrow), perm=[0, 3, 1, 2])
        scale = builder.constant(np.ones((width, 1, 1), np.float32))
        tensor = builder.apply("Add", builder.apply("Mul", turned, scale), tensor)
    return tensor


STEPS: Mapping[str, Piece] = {
    "AveragePool": _mixed(_average_pool),
    "BatchNormalization": _mixed(_batch_norm),
    "Gate": _mixed(_gate),
    "HardSwish": _mixed(_hard_swish),
    "Join": _mixed(_join),
    "MaxPool": _mixed(_max_pool),
    "Shortcut": _mixed(_shortcut),
    "Swish": _mixed(_swish),
}
"""Steps of an image that are no products."""

VECTOR_STEPS: Mapping[str, Piece] = {"Gelu": _gelu, "LayerNormalization": _norm, "Softmax": _softmax, "Sum": _sum}
"""Steps of vectors."""

STACKS: Mapping[str, Piece] = {
    "Bottleneck": _mixed(_bottleneck),
    "ConvNeXt": _mixed(_convnext),
    "Grouped": _mixed(partial(_bottleneck, groups_of=8, wider=1, gates=True)),
    "Growing": _mixed(_growing),
    "Inverted": _mixed(_inverted),
    "InvertedHard": _mixed(partial(_inverted, activation=_hard_swish, gates=True)),
    "InvertedSwish": _mixed(partial(_inverted, activation=_swish, gates=True)),
    "Plain": _plain,
    "Residual": _mixed(_residual),
    "Shuffled": _mixed(_shuffled),
}
"""Operators of several kinds and sizes after one another, which in a net slow each other down."""

VECTOR_STACKS: Mapping[str, Piece] = {"Transformer": _transformer}
"""The same of vectors."""
