"""`report.json`: every number about a bundle, and where the number comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator
from typing_extensions import Self

from edgec.core.errors import IntegrityError
from edgec.core.facts import (
    CalibrationFacts,
    DataFacts,
    Effect,
    LatencyCurve,
    LayerSensitivity,
    OperatorLatency,
    ReliabilityBin,
    SizePart,
    TensorRTCheck,
)
from edgec.core.frozen import Frozen
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.loss import Loss
from edgec.evaluate.teacher import TeacherCheck

__all__ = [
    "LineageStep",
    "Report",
    "encode_report",
    "parse_report",
]

SCHEMA = 1
_COSTS = ("latency_ms_p50", "teacher_speedup", "speedup", "multiply_adds", "size_bytes")
"""In the order in which they are told."""


class LineageStep(Frozen):
    """One stage of the build.

    Attributes:
        config: Digest of the stage's config.
    """

    name: str
    config: str
    facts: Mapping[str, JsonValue] = Field(default_factory=dict)


class Report(Frozen):
    """All that is known about a bundle.

    Attributes:
        title: What was built, for people.
        target: Name of the device profile.
        target_title: The device, for people.
        labels: Class names in the order of the model's outputs.
        input: What the model takes, and how pictures become that.
        train_counts: Labelled training images per class.
        rounded_to: What the results of the artifact's operators were rounded to when it was evaluated, because the
            target computes in that format and the machine that evaluated does not; None where the file ran as it is.
        confusion: Test images by true class (rows) and given class (columns).
        reliability: How often answers are right by how sure the model was of them, from the least sure, by stage.
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
    input: InputSpec | None = None
    train_counts: tuple[int, ...] | None = None
    measurements: tuple[Measurement, ...]
    rounded_to: Literal["float16"] | None = None
    confusion: Mapping[Stage, tuple[tuple[int, ...], ...]] = Field(default_factory=dict)
    reliability: Mapping[Stage, tuple[ReliabilityBin, ...]] = Field(default_factory=dict)
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

    @property
    def costs(self) -> tuple[Measurement, ...]:
        """What the teacher and the file that ships take: time, multiply-adds and bytes, and how they compare."""
        of = (Stage.TEACHER, Stage.ARTIFACT)
        return tuple(row for name in _COSTS for row in self.measurements if row.name == name and row.stage in of)


def _distance(row: Measurement) -> int:
    """How far a row is from the device and from having been measured."""
    if row.kind is Kind.PREDICTED:
        return 1
    return 2 if row.machine is Machine.OTHER else 0


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
