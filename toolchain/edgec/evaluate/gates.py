"""Gates: what a bundle must reach before it ships, checked against its report."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edgec.core.errors import unknown_name
from edgec.core.measurement import Kind, Measurement
from edgec.evaluate.asked import Asked, ask, prove
from edgec.evaluate.paired import Outcomes
from edgec.evaluate.significance import ALPHA, Proof

if TYPE_CHECKING:
    from edgec.evaluate.report import Report

__all__ = [
    "UNCOUNTED",
    "Check",
    "GateResult",
    "Gates",
    "Policy",
    "Verdict",
    "check_gates",
    "fold_passes",
    "require_share",
]


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


class Policy(str, Enum):
    """What a verdict rests on."""

    STRICT = "strict"
    """The estimate alone."""
    CONFIDENT = "confident"
    """A gate fails where a breach is proven; an estimate beyond the limit that may be chance does not block."""
    PROVE = "prove"
    """A gate passes where it is proven that it holds."""


class Gates(BaseModel):
    """What the artifact must reach; a gate that is None is not checked. Accuracies, drops and errors are shares.

    `min_…` and `max_…` bound the measurement that the rest of the name says. A drop is the teacher's accuracy minus
    the artifact's, a regression that of the baseline bundle, the one deployed now, minus the artifact's.

    Attributes:
        min_class_accuracy: Floors for single classes, by name; `min_worst_class_accuracy` is one for all.
        min_corrupted_accuracy: On corrupted images; needs `[evaluate]` to have asked for them.
        min_ood_auroc: How well confidence tells test images from others; likewise.
        max_class_drop: Bounds `accuracy_drop` of every class.
        max_class_regression: Bounds `regression` of every class.
        max_tail_drop: Of the mean over the rarest third of the classes; `max_tail_regression` likewise.
        max_energy_j: Of one image, where the machine tells it.
        policy: Of all gates; None is `strict`, and `confident` for regressions.
        policies: Of single gates, by name.
        allow_predicted: Whether a predicted number may pass or fail a gate, where none was measured on the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_accuracy: Share | None = None
    min_worst_class_accuracy: Share | None = None
    min_head_accuracy: Share | None = None
    min_medium_accuracy: Share | None = None
    min_tail_accuracy: Share | None = None
    min_macro_f1: Share | None = None
    min_teacher_agreement: Share | None = None
    min_class_accuracy: Mapping[str, Share] = Field(default_factory=dict)
    min_corrupted_accuracy: Share | None = None
    min_corrupted_worst_class_accuracy: Share | None = None
    min_ood_auroc: Share | None = None
    max_calibration_error: Share | None = None
    max_accuracy_drop: Share | None = None
    max_class_drop: Share | None = None
    max_tail_drop: Share | None = None
    max_macro_f1_drop: Share | None = None
    max_regression: Share | None = None
    max_class_regression: Share | None = None
    max_tail_regression: Share | None = None
    max_macro_f1_regression: Share | None = None
    max_latency_ms_p50: Limit | None = None
    max_latency_ms_p90: Limit | None = None
    max_latency_ms_p95: Limit | None = None
    max_latency_ms_p99: Limit | None = None
    max_size_bytes: Limit | None = None
    max_peak_memory_mb: Limit | None = None
    max_energy_j: Limit | None = None
    policy: Policy | None = None
    policies: Mapping[str, Policy] = Field(default_factory=dict)
    allow_predicted: bool = False

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        names = [name for name in Gates.model_fields if name not in _HOW]
        for name in self.policies:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                raise ValueError(f"policies: no gate '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return self

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return not self.limits

    @property
    def limits(self) -> dict[str, Any]:
        """The gates that are set, by name, in the order of the fields."""
        return self.model_dump(exclude=_HOW, exclude_defaults=True)

    def require_classes(self, labels: Sequence[str]) -> None:
        """Refuses floors for classes that are not there.

        Raises:
            ConfigError: With the nearest name.
        """
        for label in self.min_class_accuracy:
            if label not in labels:
                raise unknown_name("class", label, labels)

    def policy_of(self, name: str) -> Policy:
        """What a gate's verdict rests on."""
        usual = Policy.CONFIDENT if name.endswith("regression") else Policy.STRICT
        return self.policies.get(name, self.policy or usual)


_HOW = {"policy", "policies", "allow_predicted"}
"""Fields that are no gates."""
UNCOUNTED = frozenset(
    {
        *("min_corrupted_accuracy", "min_corrupted_worst_class_accuracy", "min_ood_auroc", "max_calibration_error"),
        *("max_latency_ms_p50", "max_latency_ms_p90", "max_latency_ms_p95", "max_latency_ms_p99"),
        *("max_peak_memory_mb", "max_energy_j"),
    }
)
"""Gates on numbers that do not follow from what else is in a bundle."""


class Verdict(str, Enum):
    """Whether a gate is met; inconclusive where the report, or the number of images, does not say."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class GateResult(BaseModel):
    """One gate against one number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The gate's name in the config."""
    label: str | None
    """The class that the number is of; for `min_worst_class_accuracy` the worst one."""
    limit: float
    """What was asked."""
    value: float | None
    """What the report says; null where it says nothing."""
    low: float | None
    """Lower end of the value's 95 % interval."""
    high: float | None
    """Upper end."""
    policy: Policy
    """What the verdict rests on."""
    verdict: Verdict
    blocks: bool
    """Whether the bundle must not ship because of it."""
    reason: str | None = None
    """Why a verdict is inconclusive, for people."""
    images: int | None = None
    """How many test images would probably settle it; null where it is settled, or no number would."""
    told: bool = False
    """Whether the number is the bundle's word: it was neither counted again nor measured for this check."""


class Check(BaseModel):
    """What `edgec check --json` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    """Whether nothing blocks."""
    gates: tuple[GateResult, ...]

    @classmethod
    def of(cls, results: Sequence[GateResult]) -> Self:
        """The verdicts on a bundle."""
        return cls(passed=not any(result.blocks for result in results), gates=tuple(results))


def check_gates(
    report: Report, gates: Gates, *, drops: Outcomes | None = None, regressions: Outcomes | None = None
) -> list[GateResult]:
    """Judges the artifact; an estimate that equals its limit meets it.

    - `strict`: by the estimate.
    - `confident`: fail where a breach is proven at 5 % (over all classes of the gate together, by Holm); inconclusive,
      and not blocking, where the estimate is beyond its limit and nothing is proven.
    - `prove`: pass where it is proven at 5 % that the gate holds (that all classes hold needs no correction); fail
      where a breach is proven; else inconclusive, and blocking.

    A gate is inconclusive, and blocks, under any policy where there is no such number for the artifact; where a class
    that it speaks of has no test image; and where a latency, memory or energy was not measured on the target: that of
    another machine never decides, a predicted one does while `allow_predicted` is on. What is no number (NaN) fails. A
    gate over classes gives a result per class, so a class without test images shows.

    Args:
        report: What was measured.
        gates: What is asked.
        drops: Teacher and artifact in pairs; None leaves the proof to the intervals in the report.
        regressions: Baseline bundle and artifact in pairs.

    Raises:
        ConfigError: `min_class_accuracy` names a class that the report does not have.
    """
    gates.require_classes(report.labels)
    results: list[GateResult] = []
    for name, group in groupby(ask(report, gates, regressions), key=lambda asked: asked.name):
        pairs = regressions if name.endswith("regression") else drops
        results += _judge(list(group), gates, pairs)
    return results


def _judge(group: list[Asked], gates: Gates, pairs: Outcomes | None) -> Iterator[GateResult]:
    """The verdicts on one gate, over the classes that it speaks of."""
    policy = gates.policy_of(group[0].name)
    known = [asked for asked in group if asked.row is not None and asked.fault is None]
    proofs = dict(zip(known, prove(known, pairs), strict=True)) if policy is not Policy.STRICT else {}
    for asked in group:
        if asked.fault is not None:
            yield _failed(asked, asked.fault, policy)
        elif asked.row is None:
            yield _result(asked, policy, Verdict.INCONCLUSIVE, blocks=True, reason=asked.missing)
        else:
            found = _by_proof(asked, policy, proofs[asked]) if asked in proofs else _by_estimate(asked, policy)
            if asked.missing and found.verdict is not Verdict.FAIL:
                found = _result(asked, policy, Verdict.INCONCLUSIVE, blocks=True, reason=asked.missing)
            yield found


def _failed(asked: Asked, fault: Measurement, policy: Policy) -> GateResult:
    """No comparison with NaN holds, and none must be what lets a bundle pass."""
    of = f" of class '{fault.label}'" if fault.label else ""
    reason = f"{fault.name}{of} is {fault.value}, which is no number: the model or its evaluation is broken"
    return _result(replace(asked, row=None), policy, Verdict.FAIL, blocks=True, reason=reason)


def _by_estimate(asked: Asked, policy: Policy) -> GateResult:
    return _result(asked, policy, Verdict.PASS if asked.is_met else Verdict.FAIL, blocks=not asked.is_met)


def _by_proof(asked: Asked, policy: Policy, proof: Proof) -> GateResult:
    if proof.breach <= ALPHA:
        return _result(asked, policy, Verdict.FAIL, blocks=True)
    if proof.holds <= ALPHA or (policy is Policy.CONFIDENT and asked.is_met):
        return _result(asked, policy, Verdict.PASS, blocks=False)
    row = asked.row
    if proof.is_blind:
        return _result(asked, policy, Verdict.INCONCLUSIVE, blocks=True, reason=_why_blind(row))
    counted = f"{row.n:,} {'images' if row.unit == 'share' else 'runs'}" if row else "no images"
    needed = f"about {proof.images:,}" if proof.images else "no number"
    reason = f"{counted} do not tell; {needed} would"
    return _result(
        asked, policy, Verdict.INCONCLUSIVE, blocks=policy is Policy.PROVE, reason=reason, images=proof.images
    )


def _why_blind(row: Measurement | None) -> str:
    """Why a number without an interval proves nothing, and what to do."""
    if row is None or row.machine is None:
        return "it has no interval, so it proves nothing: judge it by the policy strict"
    what = (
        "a prediction without an interval" if row.kind is Kind.PREDICTED else f"n = {row.n}, too few for an interval,"
    )
    return f"{what} proves nothing: hand over what edgec bench --json measures (--bench), or judge it by strict"


def _result(
    asked: Asked,
    policy: Policy,
    verdict: Verdict,
    *,
    blocks: bool,
    reason: str | None = None,
    images: int | None = None,
) -> GateResult:
    row = asked.row or asked.forecast
    return GateResult(
        name=asked.name,
        label=asked.label,
        limit=asked.limit,
        value=row.value if row else None,
        low=row.low if row else None,
        high=row.high if row else None,
        policy=policy,
        verdict=verdict,
        blocks=blocks,
        reason=reason,
        images=images,
    )


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
