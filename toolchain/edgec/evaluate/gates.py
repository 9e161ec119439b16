"""Gates: what a bundle must reach before it ships, checked against its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgec.core.errors import unknown_name
from edgec.core.measurement import Kind, Measurement, Stage

if TYPE_CHECKING:
    from edgec.evaluate.report import Report

__all__ = ["GateResult", "Gates", "Verdict", "check_gates", "fold_passes", "require_share"]


def require_share(value: float) -> float:
    """A share as it came.

    Raises:
        ValueError: Not from 0 to 1.
    """
    if 0 <= value <= 1:
        return value
    raise ValueError(f"got {value:g}, expected a share from 0 to 1, such as 0.9 for 90 %")


Share = Annotated[float, AfterValidator(require_share)]
Limit = Annotated[float, Field(gt=0)]


class Gates(BaseModel):
    """What the artifact must reach; a gate that is None is not checked. Accuracies and drops are shares.

    `min_…` and `max_…` bound the measurement that the rest of the name says. A drop is the teacher's accuracy minus
    the artifact's.

    Attributes:
        min_class_accuracy: Floors for single classes, by name.
        max_class_drop: Bounds `accuracy_drop` of every class.
        allow_predicted: Whether a predicted number may pass or fail a gate, where none was measured on the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_accuracy: Share | None = None
    min_worst_class_accuracy: Share | None = None
    min_tail_accuracy: Share | None = None
    min_macro_f1: Share | None = None
    min_class_accuracy: Mapping[str, Share] = Field(default_factory=dict)
    max_accuracy_drop: Share | None = None
    max_class_drop: Share | None = None
    max_latency_ms_p50: Limit | None = None
    max_latency_ms_p99: Limit | None = None
    max_size_bytes: Limit | None = None
    max_peak_memory_mb: Limit | None = None
    allow_predicted: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return self.model_dump(exclude={"allow_predicted"}, exclude_defaults=True) == {}


class Verdict(str, Enum):
    """Whether a gate is met; inconclusive where the report does not say."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate against one number.

    Attributes:
        name: The gate's name in the config.
        label: The class that the number is of; for `min_worst_class_accuracy` the worst one.
        limit: What was asked.
        value: What the report says; None where it says nothing.
        reason: Why a verdict is inconclusive, for people.
    """

    name: str
    label: str | None
    limit: float
    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    reason: str | None = None

    def as_json(self) -> Mapping[str, Any]:
        """The record that `edgec check --json` prints."""
        return {
            "name": self.name,
            "label": self.label,
            "limit": self.limit,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "verdict": self.verdict.value,
        }


def check_gates(report: Report, gates: Gates) -> list[GateResult]:
    """Judges the artifact by point estimates: an estimate that equals its limit passes.

    A gate is inconclusive where the report holds no such number for the artifact, or only a predicted one while
    `allow_predicted` is off. `max_class_drop` gives a result per class, so a class without test images shows.

    Raises:
        ConfigError: `min_class_accuracy` names a class that the report does not have.
    """
    for label in gates.min_class_accuracy:
        if label not in report.labels:
            raise unknown_name("class", label, report.labels)
    return [
        _judge(asked, report.find(Stage.ARTIFACT, asked.measurement, asked.row), gates)
        for asked in _asked(report, gates)
    ]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A gate, the row that it bounds, and the class that it speaks of."""

    name: str
    measurement: str
    limit: float
    row: str | None = None
    label: str | None = None


def _asked(report: Report, gates: Gates) -> Iterator[_Asked]:
    """The gates that are set, in the order of the config's fields."""
    set_fields = gates.model_dump(exclude={"allow_predicted"}, exclude_none=True)
    for name, limit in set_fields.items():
        match name:
            case "min_class_accuracy":
                for label, floor in limit.items():
                    yield _Asked(name=name, measurement="accuracy", limit=floor, row=label, label=label)
            case "max_class_drop":
                for label in report.labels:
                    yield _Asked(name=name, measurement="accuracy_drop", limit=limit, row=label, label=label)
            case _:
                label = report.worst_class(Stage.ARTIFACT) if name == "min_worst_class_accuracy" else None
                yield _Asked(name=name, measurement=name.split("_", maxsplit=1)[1], limit=limit, label=label)


def _judge(asked: _Asked, row: Measurement | None, gates: Gates) -> GateResult:
    """The verdict on one gate."""
    verdict, reason = _decide(asked, row, allow_predicted=gates.allow_predicted)
    return GateResult(
        name=asked.name,
        label=asked.label,
        limit=asked.limit,
        value=row.value if row else None,
        low=row.low if row else None,
        high=row.high if row else None,
        verdict=verdict,
        reason=reason,
    )


def _decide(asked: _Asked, row: Measurement | None, *, allow_predicted: bool) -> tuple[Verdict, str | None]:
    """Verdict, and the reason where there is none."""
    if row is None:
        what = f"{asked.measurement} of class '{asked.row}'" if asked.row else asked.measurement
        return Verdict.INCONCLUSIVE, f"the report holds no {what}"
    if row.kind is Kind.PREDICTED and not allow_predicted:
        return Verdict.INCONCLUSIVE, f"predicted for {row.where}, not measured: measure there, or allow predictions"
    met = row.value >= asked.limit if asked.name.startswith("min_") else row.value <= asked.limit
    return (Verdict.PASS if met else Verdict.FAIL), None


def fold_passes(results: Sequence[GateResult]) -> list[tuple[GateResult, int]]:
    """Results worth a line each: of a gate that many classes pass, the one nearest to its limit stands for all.

    Returns:
        Results in their order, each with the number of passes that it stands for besides itself.
    """
    passes: dict[str, list[GateResult]] = {}
    for result in results:
        if result.verdict is Verdict.PASS:
            passes.setdefault(result.name, []).append(result)
    nearest = {name: min(found, key=_margin) for name, found in passes.items()}
    return [
        (result, len(passes[result.name]) - 1 if result.verdict is Verdict.PASS else 0)
        for result in results
        if result.verdict is not Verdict.PASS or result is nearest[result.name]
    ]


def _margin(result: GateResult) -> float:
    """How far a result lies from its limit."""
    return abs((result.value or 0.0) - result.limit)
