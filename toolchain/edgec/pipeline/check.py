"""A finished bundle against gates: by what it holds, or run again on other test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.core.errors import ConfigError
from edgec.core.host import describe_host
from edgec.core.measurement import Stage
from edgec.core.progress import Progress
from edgec.evaluate.gates import GateResult, Gates, check_gates
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import Report, parse_report
from edgec.package import open_bundle

__all__ = ["PREDICTIONS", "REPORT", "Evidence", "check_bundle", "read_evidence"]

REPORT = "report.json"
PREDICTIONS = "predictions.npz"
_BATCH = 256


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


def evaluate_again(bundle: Path, test: Path, *, progress: Progress) -> Evidence:
    """Runs a bundle's artifact on labelled images; what was measured of speed and size stays as it was.

    Nothing is known of the teacher on these images, so neither is of drops against it.

    Raises:
        DataError: Nothing is there, it is no bundle, or the images do not fit it.
        IntegrityError: It is damaged or was edited.
        MissingDependencyError: scikit-learn, which counts, is not installed.
    """
    from edgec.data import load_samples
    from edgec.evaluate.accuracy import accuracy_measurements
    from edgec.runtime import load_model

    report, model = read_evidence(bundle).report, load_model(bundle)
    spec, classes = model.bundle.manifest.input, tuple(report.labels)
    samples = load_samples(test, spec, classes=classes, split="test", progress=progress)
    total = -(-len(samples) // _BATCH)
    batches = progress.track(samples.batches(_BATCH), total=total, what=f"evaluating {bundle.name}", unit="batch")
    logits = np.concatenate([model.session.logits(batch) for batch in batches])
    counts = None if report.train_counts is None else np.array(report.train_counts)
    where = f"onnxruntime, {describe_host()}"
    rows = accuracy_measurements(
        logits, samples.labels, classes, stage=Stage.ARTIFACT, where=where, train_counts=counts
    )
    kept = [row for row in report.measurements if row.unit not in ("share", "probability")]
    return Evidence(
        report=report.model_copy(update={"measurements": (*rows, *kept)}),
        predictions=Predictions.of(samples.digests, samples.labels, {Stage.ARTIFACT: logits}, classes),
    )


def check_bundle(
    bundle: Path, asked: Gates, *, baseline: Path | None = None, test: Path | None = None, progress: Progress
) -> list[GateResult]:
    """Holds a bundle against gates.

    Args:
        bundle: The candidate.
        asked: Gates; where they are empty, those that the bundle carries. With a baseline and no gate on regressions,
            no class may regress.
        baseline: The bundle that is deployed now.
        test: Labelled images to run both on; None takes what was measured when they were built.
        progress: Told of batches.

    Raises:
        ConfigError: No gate at all: a check that checks nothing must not pass. A gate on regressions without a
            baseline, or a class that is not there.
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: A bundle is damaged or was edited.
    """

    def evidence_of(path: Path) -> Evidence:
        return read_evidence(path) if test is None else evaluate_again(path, test, progress=progress)

    gates = _gates(asked, read_evidence(bundle).report, compared=baseline is not None)
    evidence = evidence_of(bundle)
    deployed = evidence_of(baseline).predictions if baseline else None
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
