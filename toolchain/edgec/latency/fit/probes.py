"""Small graphs to time on a device: the operators of classifiers, in the sizes that classifiers have them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgec.core.target import Scheme
from edgec.latency.fit.builder import GraphBuilder
from edgec.latency.fit.stacks import STACKS, STEPS, VECTOR_STACKS, VECTOR_STEPS, Image

__all__ = ["EMPTY", "HEAVY", "Probe", "probe_graph", "probes"]

_REPEATS = 8
_FEW_REPEATS = 2
_MANY_PRODUCTS, _MANY_WEIGHTS = 300e6, 1e6
"""Of a step, beyond which it is repeated only twice."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A small graph: a step of a net, some times in a row, or a stack of several kinds of step.

    Attributes:
        step: `Conv`, `Gemm`, `Stem` for a single convolution of an image, or the name of a piece of a net.
        channels: In and out.
        size: Height and width of the image, or how many vectors there are.
        kernel: Height and width of what a convolution looks at.
        groups: Of the channels of a convolution.
        wide: Channels between the first operator and the second, where there are others, and behind a stem.
        stride: Of a stem.
    """

    step: str
    channels: int
    size: int
    kernel: int = 1
    groups: int = 1
    wide: int | None = None
    stride: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its input."""
        if self.step == "Gemm":
            return self.size, self.channels
        if self.step in VECTOR_STEPS or self.step in VECTOR_STACKS:
            return 1, self.size, self.channels
        return 1, self.channels, self.size, self.size

    @property
    def is_stack(self) -> bool:
        """Whether it is a piece of a net."""
        return self.step in STACKS or self.step in VECTOR_STACKS

    @property
    def repeats(self) -> int:
        """How many times in a row the step is there."""
        if self == EMPTY:
            return 0
        if self.is_stack or self.step == "Stem":
            return 1
        weights = self.channels * (self.wide or self.channels) * self.kernel**2 // self.groups
        pixels = self.size if self.step == "Gemm" else self.size**2
        return _FEW_REPEATS if weights > _MANY_WEIGHTS or weights * pixels > _MANY_PRODUCTS else _REPEATS

    @property
    def title(self) -> str:
        """For people, as in `Conv 64x56x56 k3`."""
        shape = "x".join(map(str, self.shape[1:]))
        return f"{self.step} {shape} k{self.kernel} g{self.groups} w{self.wide} s{self.stride}"


EMPTY = Probe(step="Nothing", channels=8, size=8)
"""What running any graph takes."""

HEAVY = (Probe(step="Gemm", channels=2048, size=1), Probe(step="Conv", channels=512, size=7, wide=2048))
"""What waits for its weights."""


def probes() -> tuple[Probe, ...]:
    """The graphs to time, each in float32 and in int8."""
    return (*_stems(), *_convolutions(), *_products(), *_steps(), *_stacks())


def _stems() -> list[Probe]:
    return [
        Probe(step="Stem", channels=3, size=size, kernel=kernel, stride=stride, wide=wide)
        for size, kernel, stride, wide in (
            *((32, 3, 1, 16), (224, 3, 1, 48), (224, 3, 2, 24), (224, 3, 2, 64), (224, 7, 2, 64)),
            *((224, 11, 4, 64), (224, 4, 4, 96), (224, 16, 16, 384)),
        )
    ]


def _convolutions() -> list[Probe]:
    sizes = ((16, 112), (24, 56), (32, 56), (64, 56), (128, 28), (256, 14), (512, 7))
    found = [Probe(step="Conv", channels=c, size=s, kernel=3) for c, s in (*sizes, (48, 112), (64, 224), (192, 7))]
    found += [Probe(step="Conv", channels=c, size=s, kernel=5) for c, s in ((16, 56), (64, 28), (128, 14))]
    found += [Probe(step="Conv", channels=c, size=s) for c, s in (*sizes, (64, 112), (1024, 7))]
    found += [
        Probe(step="Conv", channels=c, size=s, wide=wide)
        for c, s, wide in (
            *((16, 112, 96), (24, 56, 144), (32, 28, 192), (96, 14, 576), (160, 7, 960), (320, 7, 1280)),
            *((64, 56, 256), (128, 28, 512), (256, 14, 1024), (512, 7, 2048), (8, 1, 32), (24, 1, 96), (64, 1, 256)),
        )
    ]
    found += [
        Probe(step="Conv", channels=c, size=s, kernel=k, groups=c)
        for c, s, k in (
            *((32, 112, 3), (96, 112, 3), (96, 56, 3), (144, 28, 3), (384, 14, 3), (960, 7, 3)),
            *((72, 56, 5), (240, 28, 5), (672, 14, 5), (1152, 7, 5), (96, 56, 7), (192, 28, 7), (384, 14, 7)),
        )
    ]
    found += [
        Probe(step="Conv", channels=c, size=s, kernel=3, groups=c // of)
        for c, s, of in (
            (64, 56, 8),
            (64, 56, 16),
            (128, 28, 16),
            (288, 14, 8),
            (288, 14, 24),
            (672, 7, 16),
            (256, 28, 32),
        )
    ]
    return found


def _products() -> list[Probe]:
    squares = ((512, 1), (1024, 1), (2048, 1), (768, 49), (384, 197), (256, 784), (96, 3136))
    found = [Probe(step="Gemm", channels=c, size=m) for c, m in squares]
    return [
        *found,
        *(Probe(step="Gemm", channels=c, size=m, wide=4 * c) for c, m in ((768, 49), (384, 197), (96, 3136))),
    ]


def _steps() -> list[Probe]:
    images = [
        Probe(step=step, channels=c, size=s) for step in STEPS for c, s in ((16, 112), (32, 56), (64, 28), (192, 14))
    ]
    vectors = [
        Probe(step=step, channels=c, size=m)
        for step in VECTOR_STEPS
        for c, m in ((96, 3136), (768, 49), (3072, 49), (197, 2364))
    ]
    return [*images, *vectors]


def _stacks() -> list[Probe]:
    return [
        Probe(step=step, channels=c, size=s)
        for step, c, s in (
            *(("Plain", 32, 112), ("Residual", 16, 32), ("Residual", 40, 56)),
            *(("Bottleneck", 48, 56), ("Grouped", 48, 56), ("Growing", 64, 28), ("Growing", 256, 14)),
            *(("Inverted", 16, 56), ("Inverted", 24, 112), ("InvertedHard", 16, 56), ("InvertedSwish", 16, 112)),
            *(("Shuffled", 64, 28), ("Shuffled", 192, 14), ("ConvNeXt", 64, 56), ("ConvNeXt", 256, 14)),
            *(("Transformer", 256, 197), ("Transformer", 384, 50)),
        )
    ]


def probe_graph(probe: Probe, scheme: Scheme) -> onnx.ModelProto:
    """The graph in float32, or with Q/DQ around each operator."""
    builder = GraphBuilder(scheme)
    tensor = builder.rounded("x")
    piece = {**STEPS, **VECTOR_STEPS, **STACKS, **VECTOR_STACKS}.get(probe.step)
    for number in range(probe.repeats):
        if piece:
            tensor = piece(builder, tensor, Image(channels=probe.channels, size=probe.size))
        elif probe.step == "Stem":
            wide = probe.wide or probe.channels
            tensor = builder.conv(tensor, probe.channels, wide, kernel=probe.kernel, stride=probe.stride)
        else:
            tensor = _product(builder, tensor, probe, widens=number % 2 == 0)
    return builder.graph(probe.shape, tensor)


def _product(builder: GraphBuilder, tensor: str, probe: Probe, *, widens: bool) -> str:
    inward, outward = probe.channels, probe.wide or probe.channels
    if not widens:
        inward, outward = outward, inward
    if probe.step == "Gemm":
        return builder.gemm(tensor, inward, outward)
    return builder.conv(tensor, inward, outward, kernel=probe.kernel, groups=probe.groups)
