"""A finished bundle against gates: by what it holds, or run again on other test images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.core.facts import DataFacts
from edgec.core.host import describe_host
from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Progress
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.gates import UNCOUNTED, GateResult, check_gates
from edgec.evaluate.paired import Pairs
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.recount import follows, recounted
from edgec.evaluate.report import Report, parse_report
from edgec.package import Bundle, Trust, open_bundle, verify_signature

if TYPE_CHECKING:
    from edgec.runtime import Model, Session

__all__ = [
    "PREDICTIONS",
    "REPORT",
    "Evidence",
    "check_bundle",
    "check_own_gates",
    "evaluate_again",
    "read_evidence",
]

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

    @property
    def train_counts(self) -> np.ndarray | None:
        """Training images per class, where they are known."""
        return None if self.report.train_counts is None else np.array(self.report.train_counts)

    def with_rows(self, rows: Iterable[Measurement]) -> Evidence:
        """With these measurements in place of those of the same model and name."""
        added = tuple(rows)
        names = {(row.stage, row.name) for row in added}
        kept = (row for row in self.report.measurements if (row.stage, row.name) not in names)
        return replace(self, report=self.report.model_copy(update={"measurements": (*added, *kept)}))


def read_evidence(bundle: Path) -> Evidence:
    """What stands in a bundle, folder or archive.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: It is damaged or was edited.
    """
    return _evidence(open_bundle(bundle))


def _evidence(bundle: Bundle) -> Evidence:
    bundle.verify()
    report = parse_report(bundle.read_bytes(REPORT), where=f"{bundle.path}/{REPORT}")
    predictions = Predictions.from_bytes(bundle.read_bytes(PREDICTIONS), report.labels, where=str(bundle.path))
    evidence = Evidence(report=report, predictions=predictions)
    return evidence.with_rows((*_counted_again(evidence, where=str(bundle.path)), _size(bundle)))


def _counted_again(evidence: Evidence, *, where: str) -> Iterable[Measurement]:
    """The rows that follow from the predictions.

    Raises:
        IntegrityError: The report has another value, or one that does not follow; up to half an image is rounding.
    """
    rows = {(r.stage, r.name, r.label): r for r in recounted(evidence.predictions, evidence.train_counts)}
    for row in evidence.report.measurements:
        if not follows(row, evidence.predictions):
            continue
        found = rows.get((row.stage, row.name, row.label))
        if found is None or not abs(found.value - row.value) <= 0.5 / found.n:
            of = f"{row.stage.value}'s {row.name.replace('_', ' ')}" + (f" on '{row.label}'" if row.label else "")
            raise IntegrityError(
                f"'{where}': {REPORT}: {of} is {row.value:.4g}, "
                f"expected {'no such row' if found is None else f'{found.value:.4g}'} by {PREDICTIONS}",
                hint="the report was edited: build the bundle again",
            )
        ends = {"low": row.low, "high": row.high} if found.low is None else {}
        yield found.model_copy(update={"where": row.where, **ends})


def _size(bundle: Bundle) -> Measurement:
    """Of the file that ships, whose digest was compared."""
    size = bundle.source.sizes[bundle.manifest.model.file]
    return Measurement(stage=Stage.ARTIFACT, name="size_bytes", value=size, unit="bytes", n=1, where="on disk")


def check_bundle(
    bundle: Path,
    asked: Gates,
    *,
    baseline: Path | None = None,
    test: Path | None = None,
    bench: Path | None = None,
    trust: Trust | None = None,
    progress: Progress,
) -> list[GateResult]:
    """Holds a bundle against gates.

    Args:
        bundle: The candidate.
        asked: Gates; where they are empty, those that the bundle carries. With a baseline and no gate on regressions,
            no class may regress.
        baseline: The bundle that is deployed now.
        test: Labelled images to run both on; None takes what was measured when they were built.
        bench: What `edgec bench --json` told of the candidate on the device: takes the place of what the bundle holds
            of latency, memory and energy.
        trust: Whose signature the candidate must have; None looks at none.
        progress: Told of batches.

    Raises:
        ConfigError: No gate at all: a check that checks nothing must not pass. A gate on regressions without a
            baseline, or a class that is not there.
        DataError: Nothing is there, or it is no bundle; `bench` is of another one.
        IntegrityError: A bundle is damaged or was edited.
    """
    candidate = open_bundle(bundle)
    if trust is not None:
        verify_signature(candidate, trust)
    evidence = _evidence(candidate)
    gates = _gates(asked, evidence.report, compared=baseline is not None)
    gates.require_classes(evidence.report.labels)
    deployed = read_evidence(baseline) if baseline else None
    measured = tuple(_benched(bench, candidate.digest)) if bench else ()
    evidence = evidence.with_rows(measured)
    if test is not None:
        evidence = evaluate_again(bundle, evidence, test, progress=progress)
        deployed = evaluate_again(baseline, deployed, test, progress=progress) if baseline and deployed else None
    elif {gates.max_macro_f1_drop, gates.max_tail_drop} != {None}:
        evidence = evidence.with_rows(_drops(evidence))
    if deployed:
        evidence = evidence.with_rows(_regressions(evidence, deployed, gates))
    results = check_gates(
        evidence.report,
        gates,
        drops=evidence.predictions.against_teacher(),
        regressions=evidence.predictions.against(deployed.predictions) if deployed else None,
    )
    told = UNCOUNTED - {f"max_{row.name}" for row in measured} - ({"max_calibration_error"} if test else set())
    return [result.model_copy(update={"told": result.name in told}) for result in results]


def check_own_gates(bundle: Path) -> list[GateResult]:
    """Holds a bundle against the gates of the config that it was built with, but for those that need a baseline.

    Returns:
        Nothing where it carries none.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: It is damaged or was edited.
    """
    evidence = read_evidence(bundle)
    carried = evidence.report.gates or Gates()
    regressions = dict.fromkeys(name for name in carried.limits if name.endswith("regression"))
    gates = carried.model_copy(update=regressions)
    return check_gates(evidence.report, gates, drops=evidence.predictions.against_teacher())


def evaluate_again(bundle: Path, evidence: Evidence, test: Path, *, progress: Progress) -> Evidence:
    """Runs a bundle's artifact on labelled images; what was measured of speed and size stays as it was.

    Nothing is known of the teacher on these images, so neither is of drops against it, nor of the FP32 graph, so
    neither is of what was lost: whatever the build said of its own test images goes. Where the build rounded to
    float16 what the target computes in float16, so does this, unless such a device runs it here.

    Args:
        bundle: Folder or archive.
        evidence: What stands in it.
        test: Labelled images.
        progress: Told of batches.

    Raises:
        DataError: Nothing is there, it is no bundle, or the images do not fit it.
        IntegrityError: It is damaged or was edited.
        MissingDependencyError: scikit-learn, which counts, is not installed; or onnx, which rounds.
    """
    from edgec.data import load_samples
    from edgec.evaluate.accuracy import accuracy_measurements, confusion_counts
    from edgec.runtime import load_model

    report, model = evidence.report, load_model(bundle)
    classes = report.labels
    samples = load_samples(test, model.bundle.manifest.input, classes=classes, split="test", progress=progress)
    session, where = _as_evaluated(model, report)
    total = -(-len(samples) // _BATCH)
    batches = progress.track(samples.batches(_BATCH), total=total, what=f"evaluating {bundle.name}", unit="batch")
    logits = np.concatenate([session.logits(batch) for batch in batches])
    rows = accuracy_measurements(
        logits, samples.labels, classes, stage=Stage.ARTIFACT, where=where, train_counts=evidence.train_counts
    )
    kept = [row for row in report.measurements if row.machine is not None or row.name == "size_bytes"]
    counts = confusion_counts(logits, samples.labels, classes).tolist()
    known = {"measurements": (*rows, *kept), "confusion": {Stage.ARTIFACT: counts}}
    unknown = {"loss": None, "data": DataFacts(), "notes": ()}
    return Evidence(
        report=report.model_copy(update=known | unknown),
        predictions=Predictions.of(samples.digests, samples.labels, {Stage.ARTIFACT: logits}, classes),
    )


def _as_evaluated(model: Model, report: Report) -> tuple[Session, str]:
    """What runs the graph as the build did, and how it is called."""
    from edgec.graph.float16 import ROUNDED, as_computed_in_float16
    from edgec.runtime import Session

    where = f"{model.session.engine}, {describe_host()}"
    if report.rounded_to is None or model.session.providers[0] != "CPUExecutionProvider":
        return model.session, where
    manifest = model.bundle.manifest
    session = Session(
        as_computed_in_float16(model.bundle.read_bytes(manifest.model.file)),
        manifest.input,
        preprocessing_in_graph=manifest.preprocessing_in_graph,
        threads=manifest.runtime.threads,
    )
    return session, f"{ROUNDED}, {where}"


def _benched(path: Path, digest: str) -> Iterable[Measurement]:
    """What was measured of the bundle with this digest."""
    from edgec.bench.from_device import parse_bench

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}", hint="check the path") from error
    found = parse_bench(data, where=str(path))
    if found.digest != digest:
        told = f"'{path}' is of bundle {found.digest[:12]}, the candidate is {digest[:12]}"
        raise DataError(told, hint="measure the candidate: edgec bench BUNDLE --json")
    return found.measurements()


def _regressions(evidence: Evidence, deployed: Evidence, gates: Gates) -> Iterable[Measurement]:
    """In means over classes, where a gate asks for them."""
    from edgec.evaluate.bootstrap import class_mean_rows

    pairs = evidence.predictions.pairs_with(deployed.predictions)
    asked = gates.max_macro_f1_regression, gates.max_tail_regression
    if asked == (None, None) or not len(pairs.truth):
        return ()
    common = {"stage": Stage.ARTIFACT, "where": "both bundles"}
    return class_mean_rows(pairs, what="regression", train_counts=evidence.train_counts, **common)


def _drops(evidence: Evidence) -> Iterable[Measurement]:
    """Against the teacher, in means over classes."""
    from edgec.evaluate.bootstrap import class_mean_rows

    found, common = evidence.predictions, {"stage": Stage.ARTIFACT, "where": PREDICTIONS}
    pairs = Pairs(
        truth=found.truth,
        first=found.given[Stage.TEACHER],
        second=found.given[Stage.ARTIFACT],
        classes=found.classes,
    )
    return class_mean_rows(pairs, what="drop", train_counts=evidence.train_counts, **common)


def _gates(asked: Gates, report: Report, *, compared: bool) -> Gates:
    gates = report.gates if asked.empty and report.gates is not None else asked
    how = asked.model_dump(include={"policy", "policies", "allow_predicted"}, exclude_defaults=True)
    gates = gates.model_copy(update=how)
    regresses = any(name.endswith("regression") for name in gates.limits)
    if compared and not regresses:
        return gates.model_copy(update={"max_class_regression": 0.0})
    if not compared and regresses:
        raise ConfigError("a gate on regressions without a baseline", hint="name the bundle deployed now: --baseline")
    if gates.empty:
        raise ConfigError(
            "no gate to check: none was given, and the bundle carries none",
            hint="name one, such as --min-worst-class 0.7, or --config with a [gates] table",
        )
    return gates
