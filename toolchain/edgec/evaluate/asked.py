"""What a gate asks of a report: the rows that answer, why they may not, and what they prove."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.paired import Outcomes, drop_row
from edgec.evaluate.report import Report
from edgec.evaluate.significance import (
    Proof,
    holm,
    prove_by_interval,
    prove_ceiling_of_drop,
    prove_exactly,
    prove_floor,
    worst_of,
)

__all__ = ["Asked", "ask", "prove"]

_OF_EVERY_CLASS = {"max_class_drop": "accuracy_drop", "max_class_regression": "regression"}
_OF_THE_WORST = {
    "min_worst_class_accuracy": "accuracy",
    "min_corrupted_worst_class_accuracy": "corrupted_accuracy",
}
_OF_A_MACHINE = ("latency_ms", "peak_memory_mb", "energy_j")
_EXACT = frozenset({"size_bytes"})
"""Measurements that chance does not move."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A gate's question about one number, of the whole or of one class.

    Attributes:
        name: The gate.
        limit: What is asked.
        row: The number; None where there is none to judge by.
        label: The class that it is of.
        family: Of a gate on the worst class, the rows of all classes.
        missing: Why something that the verdict needs is not there.
        forecast: A prediction that must not decide; shown, and not judged.
    """

    name: str
    limit: float
    row: Measurement | None = None
    label: str | None = None
    family: tuple[Measurement, ...] = ()
    missing: str | None = None
    forecast: Measurement | None = None

    @property
    def is_floor(self) -> bool:
        """Whether the number must not be below the limit, rather than not above."""
        return self.name.startswith("min_")

    @property
    def is_met(self) -> bool:
        """By the estimate."""
        value = self.row.value if self.row else math.nan
        return value >= self.limit if self.is_floor else value <= self.limit

    @property
    def fault(self) -> Measurement | None:
        """A row that is no number, which no model that works has."""
        rows = (self.row, *self.family) if self.row else self.family
        return next((row for row in rows if not math.isfinite(row.value)), None)


def ask(report: Report, gates: Gates, regressions: Outcomes | None) -> Iterator[Asked]:
    """The questions of the gates that are set, in the order of the config's fields.

    Args:
        report: What was measured.
        gates: What is asked.
        regressions: Baseline bundle and artifact in pairs.
    """
    for name, limit in gates.limits.items():
        measurement = name.split("_", maxsplit=1)[1]
        if name == "min_class_accuracy":
            for label, floor in limit.items():
                yield _about(name, report.find(Stage.ARTIFACT, "accuracy", label), floor, "accuracy", label)
        elif name in _OF_EVERY_CLASS:
            what = _OF_EVERY_CLASS[name]
            for label in report.labels:
                yield _about(name, _find(report, what, label, regressions), limit, what, label)
        elif name in _OF_THE_WORST:
            yield _about_the_worst(report, name, limit)
        elif measurement.startswith(_OF_A_MACHINE):
            yield _about_the_device(report, name, limit, measurement, allow_predicted=gates.allow_predicted)
        else:
            yield _about(name, _find(report, measurement, None, regressions), limit, measurement)


def _find(report: Report, what: str, label: str | None, regressions: Outcomes | None) -> Measurement | None:
    if what != "regression":
        return report.find(Stage.ARTIFACT, what, label)
    counts = (regressions or {}).get(label)
    return counts and drop_row(counts, label, name=what, stage=Stage.ARTIFACT, where="both bundles")


def _about(name: str, row: Measurement | None, limit: float, what: str, label: str | None = None) -> Asked:
    missing = None
    if row is None:
        of = f"{what} of class '{label}'" if label else what
        missing = f"the report holds no {of}"
        if what.endswith("regression"):
            missing = f"no {of}: a baseline bundle that was evaluated on the same images is needed"
    return Asked(name=name, limit=limit, row=row, label=label, missing=missing)


def _about_the_worst(report: Report, name: str, limit: float) -> Asked:
    """Every class must reach the limit, so one without an image leaves the question open."""
    rows = report.by_class(Stage.ARTIFACT, _OF_THE_WORST[name])
    if not rows:
        return _about(name, None, limit, name.removeprefix("min_"))
    worst = min(rows, key=lambda label: rows[label].value)
    absent = [label for label in report.labels if label not in rows]
    missing = None
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        missing = f"no test image of class '{absent[0]}'{more}: every class must reach the limit"
    family = tuple(rows.values())
    return Asked(name=name, limit=limit, row=rows[worst], label=worst, family=family, missing=missing)


def _about_the_device(report: Report, name: str, limit: float, what: str, *, allow_predicted: bool) -> Asked:
    """Speed, memory and energy are the device's own or nobody's."""
    row = report.find(Stage.ARTIFACT, what)
    if row is None:
        return _about(name, None, limit, what)
    if row.kind is Kind.PREDICTED and not allow_predicted:
        told = f"predicted for {row.where}, not measured: measure there, or allow predictions"
        return Asked(name=name, limit=limit, missing=told, forecast=row)
    if row.kind is Kind.MEASURED and row.machine is not Machine.TARGET:
        told = f"measured on {row.where}, not on {report.target_title}: run edgec bench there, name its file by --bench"
        return Asked(name=name, limit=limit, missing=told)
    return Asked(name=name, limit=limit, row=row)


def prove(group: Sequence[Asked], pairs: Outcomes | None) -> list[Proof]:
    """What the numbers prove about each of a gate's questions; a breach is corrected for the number of classes.

    Args:
        group: Questions of one gate, each with a row.
        pairs: The models that a drop or regression compares; None leaves the proof to the intervals.
    """
    proofs = [_proof(asked, pairs) for asked in group]
    corrected = holm([proof.breach for proof in proofs])
    return [proof._replace(breach=breach) for proof, breach in zip(proofs, corrected, strict=True)]


def _proof(asked: Asked, pairs: Outcomes | None) -> Proof:
    row = asked.row
    if row is None:
        raise ValueError(f"{asked.name}: nothing to prove it by")
    if asked.family:
        return worst_of([prove_floor(one, asked.limit) for one in asked.family])
    counts = (pairs or {}).get(asked.label)
    # Drops of means over classes, such as macro F1, are not counted in images: they have the bootstrap's interval.
    if counts is not None and row.name in ("accuracy_drop", "regression"):
        return prove_ceiling_of_drop(counts, asked.limit)
    if asked.is_floor and row.name.endswith(("accuracy", "agreement")):
        return prove_floor(row, asked.limit)
    if row.name in _EXACT:
        return prove_exactly(holds=asked.is_met)
    return prove_by_interval(row, asked.limit, floor=asked.is_floor)
