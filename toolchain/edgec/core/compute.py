"""What a device's latency is made of, as profiles say and `edgec targets fit` fits: speeds, waste, caches."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from pydantic import Field

from edgec.core.frozen import Frozen

__all__ = ["Compute", "Efficiency", "Fill", "Fitted", "Resident", "Waste"]


class Efficiency(Frozen):
    """Share of the peak that large operators of a class reach once their launch is paid.

    Beyond 1 where the runtime multiplies less than is counted, or where the nominal peak is too low.
    """

    dense: float = Field(gt=0, le=8)
    """Convolutions over more than one pixel that mix channels."""
    pointwise: float = Field(gt=0, le=8)
    """1x1 convolutions."""
    depthwise: float = Field(gt=0, le=8)
    """Convolutions that do not mix channels."""
    elementwise: float = Field(gt=0, le=8)
    """Everything else: pooling, additions, activations that no convolution absorbs."""
    winograd: float | None = Field(default=None, gt=0, le=8)
    """3x3 convolutions of stride 1 that mix channels, which need fewer multiplications than are counted (Lavin and
    Gray, CVPR 2016). None: as `dense`."""
    grouped: float | None = Field(default=None, gt=0, le=8)
    """Convolutions in groups of several channels. None: as `dense`."""
    narrow: float | None = Field(default=None, gt=0, le=8)
    """The same where their number is no multiple of 16. None: as `grouped`."""
    stem: float | None = Field(default=None, gt=0, le=8)
    """Convolutions over more than one pixel of up to four channels, as an image has. None: as `dense`."""
    matmul: float | None = Field(default=None, gt=0, le=8)
    """Matrix products that are no convolutions. None: as `pointwise`."""
    ragged: float | None = Field(default=None, gt=0, le=8)
    """Depthwise convolutions of a number of channels that is no multiple of 16. None: as `depthwise`."""

    def of(self, kind: str) -> float:
        """The share of a class."""
        share = getattr(self, kind)
        return self.of(RELATED[kind]) if share is None else share


RELATED = {
    "grouped": "dense",
    "matmul": "pointwise",
    "narrow": "grouped",
    "ragged": "depthwise",
    "stem": "dense",
    "winograd": "dense",
}
"""Classes of operator that a profile may leave out, each with the one that stands for it then."""


ProductClass: TypeAlias = Literal[
    "dense", "depthwise", "grouped", "matmul", "narrow", "pointwise", "ragged", "stem", "winograd"
]
"""Classes of operator that multiply."""


class Waste(Frozen):
    """What products cost beside their multiplications, counted in these.

    For M rows, N outputs and K terms, that is MN `per_output` + MK `per_input` + M `per_row` + NK `per_weight`.
    """

    per_output: float = Field(default=0, ge=0)
    """Each value that is made: what it takes to round and to write it."""
    per_input: float = Field(default=0, ge=0)
    """Each value of the patches that are multiplied: what it takes to gather them."""
    per_row: float = Field(default=0, ge=0)
    """Each pixel or vector, in each group of channels."""
    per_weight: float = Field(default=0, ge=0)
    """Each weight; not where there is a single row: a matrix times a vector waits for the matrix."""


class Fill(Waste):
    """What small operators waste, with channels rounded up to the step of the number format.

    Where a class differs, `classes` says so, by its name under `efficiency`.
    """

    fp32_step: int = Field(default=1, ge=1)
    """Channels are padded to a multiple of it, in float32; those of depthwise convolutions are not."""
    fp16_step: int = Field(default=1, ge=1)
    """The same in float16."""
    int8_step: int = Field(default=1, ge=1)
    """The same in int8."""
    classes: dict[ProductClass, Waste] = Field(default_factory=dict)
    """What products of a class waste, where that is not what stands above."""

    def of(self, kind: str) -> Waste:
        """What products of a class waste: what is said of it, or of the class that stands for it, or of all."""
        own: dict[str, Waste] = {**self.classes}
        while kind not in own and kind in RELATED:
            kind = RELATED[kind]
        return own.get(kind, self)


class Resident(Frozen):
    """What small nets gain: their weights are in a cache still when the next image comes."""

    up_to_mb: float = Field(gt=0)
    """Megabytes (10^6 bytes) of weights that a net may have."""
    gb_per_s: float = Field(gt=0)
    """At which they come from there."""


class Fitted(Frozen):
    """Sizes of the whole nets that the figures were fitted to, in 10^9 multiply-adds of an inference.

    A profile that was fitted to single operators has none: they are no smaller in a small net.
    """

    least_gmacs: float = Field(gt=0)
    most_gmacs: float = Field(gt=0)

    def widths_outside(self, macs: int) -> float:
        """How far outside of them a net lies, in widths of their range; both in logarithm. 0 for one inside."""
        size, least, most = (math.log(gmacs) for gmacs in (max(macs, 1) / 1e9, self.least_gmacs, self.most_gmacs))
        return max(least - size, size - most, 0.0) / max(most - least, math.log(2))


class Compute(Frozen):
    """Dense peaks and the roofline's parameters; None where the device has no such unit."""

    fp32_tflops: float = Field(gt=0)
    """Of the path that float32 graphs take there: TensorRT uses TF32 tensor cores where the GPU has them."""
    fp16_tflops: float | None = Field(default=None, gt=0)
    int8_tops: float | None = Field(default=None, gt=0)
    vector_tflops: float | None = Field(default=None, gt=0)
    """Of the units that run everything but matrix products, depthwise convolutions among them, in any number format:
    CUDA cores beside tensor cores. None: the peak of the number format."""
    bandwidth_gb_per_s: float = Field(gt=0)
    bandwidth_share: float = Field(default=1, gt=0, le=8)
    """Of the bandwidth, reached; beyond 1 where caches hold most of what moves."""
    cache_gb_per_s: float | None = Field(default=None, gt=0)
    """Of what moves from one operator to the next, where caches hold that and only weights come from memory, before
    anything is computed with them. None: all comes from memory, while something is computed."""
    resident: Resident | None = None
    """None: weights of any net come from memory."""
    floor_us: float = Field(ge=0)
    """Time that any operator takes, launch included."""
    efficiency: Efficiency
    int8_efficiency: Efficiency | None = None
    """The same for operators in int8. None: no other."""
    effort: dict[str, float] = Field(default_factory=dict)
    """How many times what is assumed of an ONNX operator that is no matrix product takes here, as `Softmax = 1.7`."""
    int8_effort: dict[str, float] = Field(default_factory=dict)
    """The same in int8."""
    fill: Fill = Fill()
    int8_fill: Fill | None = None
    """What small operators waste in int8, where rounding each value costs, too. None: no other."""
    spread: float | None = Field(default=None, gt=0)
    """Standard deviation of ln(measured / predicted) over whole nets. Predictions get a 95 % interval from it."""
    fitted: Fitted | None = None
    """For a net smaller or larger than these the spread grows, by as much again for every width of their range."""

    def spread_at(self, macs: int) -> float | None:
        """The spread for a net of so many multiply-adds."""
        if self.spread is None or self.fitted is None:
            return self.spread
        return self.spread * (1 + self.fitted.widths_outside(macs))

    def for_weights(self, size_bytes: int) -> Compute:
        """The same for a net with so many bytes of weights: the bandwidth is that at which they come."""
        if self.resident is None or size_bytes > self.resident.up_to_mb * 1e6:
            return self
        return self.model_copy(update={"bandwidth_gb_per_s": self.resident.gb_per_s, "bandwidth_share": 1.0})
