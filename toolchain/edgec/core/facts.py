"""Facts that stages find and the report shows, as `report.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from edgec.core.frozen import Frozen
from edgec.core.measurement import Stage

__all__ = [
    "CalibrationFacts",
    "DataFacts",
    "Effect",
    "Finding",
    "FloatOperator",
    "LatencyCurve",
    "LayerSensitivity",
    "OperatorLatency",
    "Overlap",
    "ReliabilityBin",
    "SharedImage",
    "SizePart",
    "Split",
    "TensorRTCheck",
]


class Split(Frozen):
    """One set of images: what it was used for, how many, and a digest that pins them down.

    Attributes:
        name: `train`, `ood`, `calibration`, `test`.
        counts: Images per class in the order of the labels; None where they have no labels.
        digest: SHA-256 over the images, and labels where there are any.
        source: Where they came from, for people.
    """

    name: str
    n: int = Field(ge=0)
    counts: tuple[int, ...] | None = None
    digest: str
    source: str


class Overlap(Frozen):
    """How many images two splits share, by the digests of their pixels; 0 is the proof that they are disjoint."""

    first: str
    second: str
    shared: int = Field(ge=0)


class SharedImage(Frozen):
    """An image that another split knows already: nearly one of its images, or of a group with one.

    Attributes:
        split: Where the image is.
        other: The split that knows it.
        like: The image there.
    """

    split: str
    image: str
    other: str
    like: str
    reason: Literal["near-duplicate", "group", "group of a near-duplicate"]


class DataFacts(Frozen):
    """What the data were.

    Attributes:
        purity: What was removed from the out-of-distribution pool and why, as in `{"near duplicates": 3}`.
        leaks: Images that two splits share in all but their digests; the first of them, where they are many.
        left_out: Test images that were left out because of that.
        contradictions: Images that stand in two classes of one split, with both names.
    """

    splits: tuple[Split, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    purity: Mapping[str, int] = Field(default_factory=dict)
    leaks: tuple[SharedImage, ...] = ()
    left_out: int = Field(default=0, ge=0)
    contradictions: tuple[str, ...] = ()


class CalibrationFacts(Frozen):
    """What the ranges of a quantised graph were read from.

    Attributes:
        recipe: The recipe's name.
        observer: How a range is read from a tensor's values.
        ood_labels: How out-of-distribution images got the classes that they stand for.
        images: How many images in all.
        digest: One digest over the images' digests, order included.
        sources: Where the images came from, for people.
        few_per_class: Labelled images by class name.
        ood_per_class: Out-of-distribution images by the class that they stand for.
        weight_per_class: Share of the total weight by class name.
    """

    recipe: str
    observer: str
    ood_labels: str
    images: int
    digest: str
    sources: tuple[str, ...]
    few_per_class: Mapping[str, int]
    ood_per_class: Mapping[str, int]
    weight_per_class: Mapping[str, float]


class LayerSensitivity(Frozen):
    """What int8 in one layer, or in one activation that is no layer's, costs each class.

    Attributes:
        layer: The operator's name in the graph, or the activation's.
        operator: Its type, or that of what makes the activation; `input` for that of the graph.
        kept: The numbers that it is in.
        divergence: By class, how far the outputs move where it alone is rounded, in nat; some classes may be
            missing.
    """

    layer: str
    operator: str
    kept: Literal["int8", "float"]
    divergence: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Effect(Frozen):
    """What one refinement of the int8 model did to the class that diverges most, in nat."""

    what: str
    worst_class_divergence_before: float = Field(ge=0, allow_inf_nan=False)
    worst_class_divergence_after: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class ReliabilityBin(Frozen):
    """Images whose answers a model was about equally sure of.

    Attributes:
        n: Images.
        confidence: Mean of the scores that the answers had.
        accuracy: Share of the answers that were right.
    """

    n: int = Field(ge=1)
    confidence: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)


class OperatorLatency(Frozen):
    """An operator's part in a predicted latency, and what would make it shorter."""

    name: str
    op: str
    ms: float
    advice: str | None = None


class LatencyCurve(Frozen):
    """How the times of single runs were spread.

    Attributes:
        n: Runs.
        quantiles_ms: Observed times at equal steps of probability, from the shortest run to the longest.
    """

    stage: Stage
    where: str
    n: int = Field(ge=1)
    quantiles_ms: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(min_length=2)


class SizePart(Frozen):
    """Bytes of one layer's weights in the file that ships, or of a part that is not a layer.

    Attributes:
        name: The layer in the graph, or what the bytes are.
        operator: Its type; None for a part that is not a layer.
        bytes: In the file that ships.
        full_bytes: In the float32 file before quantisation; None where it has no such layer.
    """

    name: str
    operator: str | None = None
    bytes: int = Field(ge=0)
    full_bytes: int | None = Field(default=None, ge=0)


class Finding(Frozen):
    """What the linter found in the graph for TensorRT; an error would have stopped the build."""

    rule: str
    severity: Literal["error", "warning"]
    node: str
    what: str
    fix: str


class FloatOperator(Frozen):
    """A convolution or matrix product that stays in floating point, and why that is meant."""

    name: str
    reason: str


class TensorRTCheck(Frozen):
    """What is known of the graph without the device.

    Attributes:
        findings: What the linter says.
        tool: The package that parsed and built the graph ahead of time, with its version; None where there was none.
        proven: Whether it did, and saw int8 where it was promised.
        int8: Operators that take int8 on both inputs, by kind.
        floats: Those that do not, on purpose.
        engine_bytes: Size of the engine that was built for the proof, and thrown away.
        note: The verdict, what it says and what it does not.
    """

    findings: tuple[Finding, ...] = ()
    tool: str | None = None
    proven: bool
    int8: Mapping[str, int] = Field(default_factory=dict)
    floats: tuple[FloatOperator, ...] = ()
    engine_bytes: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    note: str
