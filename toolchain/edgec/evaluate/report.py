"""`report.json`: every number about a bundle, and where the number comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from typing_extensions import Self

from edgec.core.errors import IntegrityError
from edgec.core.files import write_bytes
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.loss import Loss
from edgec.evaluate.teacher import TeacherCheck

__all__ = [
    "CalibrationFacts",
    "DataFacts",
    "Effect",
    "FloatProduct",
    "LatencyCurve",
    "LayerSensitivity",
    "LineageStep",
    "LintFinding",
    "OperatorLatency",
    "Overlap",
    "Report",
    "SharedImage",
    "SizePart",
    "Split",
    "TensorRTCheck",
    "encode_report",
    "parse_report",
    "write_report",
]

SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(_Frozen):
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


class Overlap(_Frozen):
    """How many images two splits share, by the digests of their pixels; 0 is the proof that they are disjoint."""

    first: str
    second: str
    shared: int = Field(ge=0)


class SharedImage(_Frozen):
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


class DataFacts(_Frozen):
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


class CalibrationFacts(_Frozen):
    """What the ranges of the quantised graph were taken from.

    Attributes:
        few_counts: Labelled images per class.
        ood_counts: Out-of-distribution images per class to which they were assigned.
        facts: Recipe, observer, scheme and whatever else a person may ask.
    """

    few_counts: tuple[int, ...]
    ood_counts: tuple[int, ...]
    facts: Mapping[str, JsonValue] = Field(default_factory=dict)


class LayerSensitivity(_Frozen):
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


class Effect(_Frozen):
    """What one refinement of the int8 model did to the class that diverges most, in nat."""

    what: str
    worst_class_divergence_before: float = Field(ge=0, allow_inf_nan=False)
    worst_class_divergence_after: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class LineageStep(_Frozen):
    """One stage of the build.

    Attributes:
        config: Digest of the stage's config.
        seconds: How long it took; None when its result came from the cache.
    """

    name: str
    config: str
    facts: Mapping[str, JsonValue] = Field(default_factory=dict)
    seconds: float | None = None


class OperatorLatency(_Frozen):
    """An operator's part in a predicted latency, and what would make it shorter."""

    name: str
    op: str
    ms: float
    advice: str | None = None


class LatencyCurve(_Frozen):
    """How the times of single runs were spread.

    Attributes:
        n: Runs.
        quantiles_ms: Observed times at equal steps of probability, from the shortest run to the longest.
    """

    stage: Stage
    where: str
    n: int = Field(ge=1)
    quantiles_ms: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(min_length=2)


class SizePart(_Frozen):
    """Bytes of one layer's weights in the file that ships, or of what is no layer's.

    Attributes:
        name: The layer in the graph, or what the bytes are.
        operator: Its type; None for what is no layer's.
        bytes: In the file that ships.
        full_bytes: In the float32 file before quantisation; None where it has no such layer.
    """

    name: str
    operator: str | None = None
    bytes: int = Field(ge=0)
    full_bytes: int | None = Field(default=None, ge=0)


class LintFinding(_Frozen):
    """What the linter found in the graph for TensorRT; an error would have stopped the build."""

    rule: str
    severity: Literal["error", "warning"]
    node: str
    what: str
    fix: str


class FloatProduct(_Frozen):
    """A convolution or matrix product that stays in floating point, and why that is meant."""

    name: str
    reason: str


class TensorRTCheck(_Frozen):
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

    findings: tuple[LintFinding, ...] = ()
    tool: str | None = None
    proven: bool
    int8: Mapping[str, int] = Field(default_factory=dict)
    floats: tuple[FloatProduct, ...] = ()
    engine_bytes: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    note: str


class Report(_Frozen):
    """All that is known about a bundle.

    Attributes:
        title: What was built, for people.
        target: Name of the device profile.
        target_title: The device, for people.
        labels: Class names in the order of the model's outputs.
        train_counts: Labelled training images per class.
        rounded_to: What the results of the artifact's operators were rounded to when it was evaluated, because the
            target computes in that format and the machine that evaluated does not; None where the file ran as it is.
        confusion: Test images by true class (rows) and given class (columns).
        operators: Where a predicted latency goes, slowest first.
        curves: How measured latencies were spread.
        sizes: Where the file's bytes are, layers in the order of the graph.
        sensitivity: What int8 costs each class, layer by layer and activation by activation in the graph's order.
        effects: What refined the int8 model, in the order in which it was done.
        tensorrt: What is known of the graph without the device, where that runs TensorRT.
        loss: What the file that ships lost of what its FP32 graph had; None where it kept it.
        teacher: How well the teacher does on labelled images as it was given, and what would mend it.
        gates: What `edgec check` asks when it is given no gates.
        notes: What was not done, and what the reader should know.
        tools: Versions of what took part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    title: str
    target: str
    target_title: str
    labels: tuple[str, ...] = Field(min_length=2)
    train_counts: tuple[int, ...] | None = None
    measurements: tuple[Measurement, ...]
    rounded_to: Literal["float16"] | None = None
    confusion: Mapping[Stage, tuple[tuple[int, ...], ...]] = Field(default_factory=dict)
    operators: tuple[OperatorLatency, ...] = ()
    curves: tuple[LatencyCurve, ...] = ()
    sizes: tuple[SizePart, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    effects: tuple[Effect, ...] = ()
    tensorrt: TensorRTCheck | None = None
    loss: Loss | None = None
    teacher: TeacherCheck | None = None
    data: DataFacts = DataFacts()
    calibration: CalibrationFacts | None = None
    lineage: tuple[LineageStep, ...] = ()
    gates: Gates | None = None
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        size = len(self.labels)
        if self.train_counts is not None and len(self.train_counts) != size:
            raise ValueError(f"{len(self.train_counts)} train_counts for {size} labels")
        for stage, rows in self.confusion.items():
            if {len(rows), *map(len, rows)} != {size}:
                raise ValueError(f"confusion of stage '{stage.value}': expected {size} rows of {size} counts")
        unknown = {row.label for row in self.measurements} - {None, *self.labels}
        if unknown:
            raise ValueError(f"a measurement is of class '{min(map(str, unknown))}', which is not in labels")
        for row in self.sensitivity:
            strange = sorted(row.divergence.keys() - set(self.labels))
            if strange:
                raise ValueError(f"sensitivity of '{row.layer}' is of class '{strange[0]}', which is not in labels")
        return self

    def find(self, stage: Stage, name: str, label: str | None = None) -> Measurement | None:
        """The row with this name; None where there is none.

        A latency may stand there twice, measured on the machine that built and predicted for the target. What was
        measured on the target comes first, then a prediction for it, then what another machine measured.
        """
        return min(self._indexed.get((stage, name, label), ()), key=_distance, default=None)

    @cached_property
    def _indexed(self) -> dict[tuple[Stage, str, str | None], list[Measurement]]:
        """Rows by what they are of: a page of a thousand classes asks a thousand times."""
        found: dict[tuple[Stage, str, str | None], list[Measurement]] = {}
        for row in self.measurements:
            found.setdefault((row.stage, row.name, row.label), []).append(row)
        return found

    def __copy__(self) -> Self:
        """A copy with other rows looks them up anew: pydantic copies what is cached along with the fields."""
        copied = super().__copy__()
        vars(copied).pop("_indexed", None)
        return copied

    def by_class(self, stage: Stage, name: str) -> dict[str, Measurement]:
        """The rows with this name that are of one class, by class."""
        return {m.label: m for m in self.measurements if (m.stage, m.name) == (stage, name) and m.label is not None}

    def worst_class(self, stage: Stage) -> str | None:
        """The class with the lowest accuracy, the first of several; None where no class was measured."""
        accuracy = self.by_class(stage, "accuracy")
        return min(accuracy, key=lambda label: accuracy[label].value, default=None)


def _distance(row: Measurement) -> int:
    """How far a row is from the device and from having been measured."""
    if row.kind is Kind.PREDICTED:
        return 1
    return 2 if row.machine is Machine.OTHER else 0


def write_report(path: Path, report: Report) -> None:
    """Writes `report.json` whole or not at all."""
    write_bytes(path, encode_report(report))


def encode_report(report: Report) -> bytes:
    """JSON with one measurement, split, step or matrix a line: short, and fit for a diff."""
    fields = report.model_dump(mode="json", by_alias=True)
    lines = [f"  {_json(name)}: {_block(value)}" for name, value in fields.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _block(value: Any) -> str:
    """A field's value: a list of records or a table by name over several lines, all else on one."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"    {_json(name)}: {_json(item)}" for name, item in value.items()) + "\n  }"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse_report(data: bytes, *, where: str = "report.json") -> Report:
    """Reads what `encode_report` wrote; `where` names it in messages.

    Raises:
        IntegrityError: Not JSON, another schema, or a field that is missing or wrong.
    """
    try:
        fields = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"'{where}' is not valid JSON: {error}", hint="build or copy the bundle again") from error
    found = fields.get("schema") if isinstance(fields, dict) else None
    if found != SCHEMA:
        raise IntegrityError(
            f"'{where}': report schema {found!r}, expected {SCHEMA}",
            hint="the bundle is damaged, or a newer edgec made it: upgrade edgec",
        )
    try:
        return Report.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "report"
        message = first["msg"].removeprefix("Value error, ")
        raise IntegrityError(f"'{where}': {field}: {message}", hint="build or copy the bundle again") from error
