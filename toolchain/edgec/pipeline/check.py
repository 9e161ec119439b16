"""A finished bundle against gates, by what it holds: nothing is run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import ConfigError
from edgec.evaluate.gates import GateResult, Gates, check_gates
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import Report, parse_report
from edgec.package import open_bundle

__all__ = ["PREDICTIONS", "REPORT", "Evidence", "check_bundle", "read_evidence"]

REPORT = "report.json"
PREDICTIONS = "predictions.npz"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a bundle says about itself.

    Attributes:
        report: Every number.
        predictions: What its models made of every test image.
    """

    report: Report
    predictions: Predictions


def read_evidence(bundle: Path) -> Evidence:
    """Opens a bundle, folder or archive.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: It is damaged or was edited.
    """
    opened = open_bundle(bundle)
    report = parse_report(opened.read_bytes(REPORT), where=f"{bundle}/{REPORT}")
    predictions = Predictions.from_bytes(opened.read_bytes(PREDICTIONS), report.labels, where=str(bundle))
    return Evidence(report=report, predictions=predictions)


def check_bundle(bundle: Path, asked: Gates, *, baseline: Path | None = None) -> list[GateResult]:
    """Holds a bundle against gates.

    Args:
        bundle: The candidate.
        asked: Gates; where they are empty, those that the bundle carries. With a baseline and no gate on regressions,
            no class may regress.
        baseline: The bundle that is deployed now.

    Raises:
        ConfigError: No gate at all: a check that checks nothing must not pass. A gate on regressions without a
            baseline, or a class that is not there.
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: A bundle is damaged or was edited.
    """
    evidence = read_evidence(bundle)
    gates = _gates(asked, evidence.report, compared=baseline is not None)
    deployed = read_evidence(baseline).predictions if baseline else None
    return check_gates(
        evidence.report,
        gates,
        drops=evidence.predictions.against_teacher(),
        regressions=evidence.predictions.against(deployed) if deployed else None,
    )


def _gates(asked: Gates, report: Report, *, compared: bool) -> Gates:
    gates = report.gates if asked.empty and report.gates is not None else asked
    how = asked.model_dump(include={"policy", "policies", "allow_predicted"}, exclude_defaults=True)
    gates = gates.model_copy(update=how)
    regressions = gates.max_regression, gates.max_class_regression
    if compared and regressions == (None, None):
        return gates.model_copy(update={"max_class_regression": 0.0})
    if not compared and regressions != (None, None):
        raise ConfigError("a gate on regressions without a baseline", hint="name the bundle deployed now: --baseline")
    if gates.empty:
        raise ConfigError(
            "no gate to check: none was given, and the bundle carries none",
            hint="name one, such as --min-worst-class 0.7, or --config with a [gates] table",
        )
    return gates
