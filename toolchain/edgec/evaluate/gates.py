"""A report against gates: a verdict for each, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from itertools import groupby

from typing_extensions import Self

from edgec.core.frozen import Frozen
from edgec.core.measurement import Kind, Measurement
from edgec.evaluate.asked import Asked, ask, prove
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.paired import Outcomes
from edgec.evaluate.report import Report
from edgec.evaluate.significance import ALPHA, Proof

__all__ = [
    "UNCOUNTED",
    "Check",
    "GateResult",
    "Verdict",
    "check_gates",
    "fold_passes",
]


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


class GateResult(Frozen):
    """One gate against one number."""

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


class Check(Frozen):
    """What `edgec check --json` prints."""

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
    another machine never decides, a predicted one does while `allow_predicted` is on. A value that is not a number
    (NaN) fails. A gate over classes gives a result per class, so a class without test images shows.

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
