"""Small graphs to time on a device: the operators of classifiers, in the sizes that classifiers have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx

from edgec.core.target import Scheme
from edgec.evaluate.builder import GraphBuilder

__all__ = ["EMPTY", "Probe", "probe_graph", "probes"]

_REPEATS = 8


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A small graph: a step of a net, `_REPEATS` times in a row, or a stack of several kinds of step.

    Attributes:
        step: `Conv`, `Gemm`, or a name in `_STEPS` or `_STACKS`.
        channels: In and out.
        size: Height and width of the image; for a Gemm the number of rows.
        groups: Of the channels of a convolution.
        wide: Channels between the first operator and the second, where there are others.
    """

    step: str
    channels: int
    size: int
    kernel: int = 1
    groups: int = 1
    wide: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its input and its output."""
        if self.step in ("Gemm", "Perceptron"):
            return self.size, self.channels
        return 1, self.channels, self.size, self.size

    @property
    def is_stack(self) -> bool:
        """Whether it is a piece of a net."""
        return self.step in _STACKS

    @property
    def title(self) -> str:
        """For people, as in `Conv 64x56x56 k3`."""
        return f"{self.step} {'x'.join(map(str, self.shape[1:]))} k{self.kernel} g{self.groups} w{self.wide}"


EMPTY = Probe(step="Nothing", channels=8, size=8)
"""What running any graph takes."""


def probes() -> tuple[Probe, ...]:
    """The graphs to time, each in float32 and in int8."""
    sizes = ((16, 112), (32, 56), (64, 56), (128, 28), (256, 14), (512, 7))
    convolutions = [Probe(step="Conv", channels=c, size=s, kernel=3) for c, s in sizes]
    larger = [Probe(step="Conv", channels=c, size=s, kernel=5) for c, s in ((16, 56), (64, 28), (128, 14))]
    pointwise = [Probe(step="Conv", channels=c, size=s) for c, s in (*sizes, (24, 56), (1024, 7))]
    pointwise += [
        Probe(step="Conv", channels=c, size=s, wide=6 * c)
        for c, s in ((16, 112), (24, 56), (32, 28), (96, 14), (160, 7))
    ]
    depthwise = [
        Probe(step="Conv", channels=c, size=s, kernel=k, groups=c)
        for c, s, k in (
            *((32, 112, 3), (96, 56, 3), (144, 28, 3), (384, 14, 3), (960, 7, 3)),
            *((72, 56, 5), (240, 28, 5), (672, 14, 5), (96, 56, 7), (384, 14, 7)),
        )
    ]
    grouped = [
        Probe(step="Conv", channels=c, size=s, kernel=3, groups=c // g)
        for c, s, g in ((64, 56, 8), (64, 56, 16), (128, 28, 16), (288, 14, 8), (288, 14, 24), (672, 7, 16))
    ]
    products = [
        Probe(step="Gemm", channels=c, size=m) for c, m in ((512, 1), (1024, 1), (768, 49), (384, 197), (256, 784))
    ]
    products.append(Probe(step="Gemm", channels=768, size=49, wide=3072))
    others = [Probe(step=step, channels=c, size=s) for step in _STEPS for c, s in ((64, 56), (128, 28), (256, 14))]
    stacks = [
        Probe(step=step, channels=c, size=s)
        for step, c, s in (
            *(("Residual", 32, 56), ("Residual", 64, 56), ("Grouped", 64, 56), ("Inverted", 16, 112)),
            *(("Growing", 64, 28), ("Growing", 256, 14), ("Perceptron", 384, 196), ("Perceptron", 768, 50)),
        )
    ]
    stacks += [Probe(step="Stem", channels=3, size=224, kernel=kernel) for kernel in (3, 7)]
    return (*convolutions, *larger, *pointwise, *depthwise, *grouped, *products, *others, *stacks)


def probe_graph(probe: Probe, scheme: Scheme) -> onnx.ModelProto:
    """The graph in float32, or with Q/DQ around each operator."""
    builder = GraphBuilder(scheme)
    tensor = builder.rounded("x")
    if probe.step in _STACKS:
        return builder.graph(probe.shape, _STACKS[probe.step](builder, tensor, probe))
    for number in range(_REPEATS if probe != EMPTY else 0):
        if probe.step in ("Conv", "Gemm"):
            tensor = _product(builder, tensor, probe, widens=number % 2 == 0)
        else:
            tensor = _STEPS[probe.step](builder, tensor, probe)
    return builder.graph(probe.shape, tensor)


def _product(builder: GraphBuilder, tensor: str, probe: Probe, *, widens: bool) -> str:
    inward, outward = probe.channels, probe.wide or probe.channels
    if not widens:
        inward, outward = outward, inward
    if probe.step == "Gemm":
        return builder.gemm(tensor, inward, outward)
    return builder.conv(tensor, inward, outward, kernel=probe.kernel, groups=probe.groups)


def _twice(op_type: str) -> Callable[[GraphBuilder, str, Probe], str]:
    """An operator of a tensor and itself."""
    return lambda builder, tensor, _: builder.apply(op_type, tensor, tensor)


def _alone(op_type: str, **settings: Any) -> Callable[[GraphBuilder, str, Probe], str]:
    return lambda builder, tensor, _: builder.apply(op_type, tensor, **settings)


def _pool(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """A pooling behind a convolution: runtimes keep pixels together between two of these."""
    mixed = builder.conv(tensor, probe.channels, probe.channels)
    return builder.apply("MaxPool", mixed, kernel_shape=[3, 3], pads=[1] * 4)


def _gate(builder: GraphBuilder, tensor: str, _: Probe) -> str:
    """What squeeze-and-excitation does beside its products: a mean for each channel, and channels scaled by it."""
    axes = builder.constant(np.array([2, 3]))
    return builder.apply("Mul", builder.apply("ReduceMean", tensor, axes, keepdims=1), tensor)


def _shuffle(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """Channels of two groups in turns, as in ShuffleNets."""
    apart = builder.constant(np.array([1, 2, probe.channels // 2, probe.size, probe.size]))
    whole = builder.constant(np.array(probe.shape))
    (split,) = builder.append("Reshape", tensor, apart)
    return builder.append("Reshape", builder.apply("Transpose", split, perm=[0, 2, 1, 3, 4]), whole)[0]


def _join(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """Channels taken apart and put together the other way round."""
    half = builder.constant(np.array([probe.channels // 2] * 2))
    one, other = (builder.rounded(part) for part in builder.append("Split", tensor, half, outputs=2, axis=1))
    return builder.apply("Concat", other, one, axis=1)


def _norm(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    width = probe.shape[-1]
    ones, zeros = (builder.constant(make(width, np.float32)) for make in (np.ones, np.zeros))
    return builder.apply("LayerNormalization", tensor, ones, zeros, axis=-1)


def _batch_norm(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """A normalisation that no convolution takes up, and a ReLU, as in DenseNets."""
    values = (builder.constant(make(probe.channels, np.float32)) for make in (np.ones, np.zeros, np.zeros, np.ones))
    return builder.apply("Relu", builder.append("BatchNormalization", tensor, *values)[0])


def _stem(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """What nets begin with: a convolution of the image, and a pooling."""
    seen = builder.conv(tensor, probe.channels, 32, kernel=probe.kernel, stride=2)
    pooled = builder.apply("MaxPool", seen, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    return builder.conv(pooled, 32, 32)


def _residual(builder: GraphBuilder, tensor: str, probe: Probe, *, groups_of: int | None = None) -> str:
    """Four sizes of image, on each a few convolutions past which a shortcut leads."""
    inward = probe.channels
    for width in (inward, 2 * inward, 4 * inward, 8 * inward):
        for number in range(4):
            stride = 2 if width > inward else 1
            groups = inward // groups_of if groups_of else 1
            branch = builder.conv(tensor, inward, width, kernel=3, stride=stride, groups=groups)
            if groups_of:
                branch = builder.conv(branch, width, width)
            tensor = builder.apply("Add", branch, tensor) if number else branch
            inward = width
    return tensor


def _inverted(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """Four sizes of image, on each two inverted residuals with gates, as in EfficientNets."""
    inward = probe.channels
    for width, kernel in ((24, 3), (40, 5), (112, 3), (192, 5)):
        for stride in (2, 1):
            inside = 6 * inward
            branch = builder.apply("HardSwish", builder.conv(tensor, inward, inside))
            branch = builder.conv(branch, inside, inside, kernel=kernel, stride=stride, groups=inside)
            branch = builder.conv(_gate(builder, branch, probe), inside, width)
            tensor = builder.apply("Add", branch, tensor) if stride == 1 else branch
            inward = width
    return tensor


def _growing(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """Channels that are added to those that are there, as in DenseNets."""
    inward, new = probe.channels, 32
    for _ in range(8):
        mixed = builder.conv(_batch_norm(builder, tensor, replace(probe, channels=inward)), inward, 4 * new)
        tensor = builder.apply("Concat", tensor, builder.conv(mixed, 4 * new, new, kernel=3), axis=1)
        inward += new
    return tensor


def _perceptron(builder: GraphBuilder, tensor: str, probe: Probe) -> str:
    """Products of four times the width, as in transformers."""
    for _ in range(4):
        wide = builder.gemm(_norm(builder, tensor, probe), probe.channels, 4 * probe.channels)
        tensor = builder.apply(
            "Add", builder.gemm(builder.apply("Erf", wide), 4 * probe.channels, probe.channels), tensor
        )
    return tensor


_STEPS: Mapping[str, Callable[[GraphBuilder, str, Probe], str]] = {
    "Add": _twice("Add"),
    "BatchNormalization": _batch_norm,
    "Erf": _alone("Erf"),
    "Gate": _gate,
    "HardSigmoid": _alone("HardSigmoid"),
    "HardSwish": _alone("HardSwish"),
    "Join": _join,
    "LayerNormalization": _norm,
    "MaxPool": _pool,
    "Mul": _twice("Mul"),
    "Shuffle": _shuffle,
    "Sigmoid": _alone("Sigmoid"),
    "Softmax": _alone("Softmax", axis=-1),
}
"""Steps of a net that are no products: what each adds to a graph."""

_STACKS: Mapping[str, Callable[[GraphBuilder, str, Probe], str]] = {
    "Growing": _growing,
    "Grouped": partial(_residual, groups_of=16),
    "Inverted": _inverted,
    "Perceptron": _perceptron,
    "Residual": _residual,
    "Stem": _stem,
}
"""Operators of several kinds and sizes after one another, which in a net slow each other down."""
