"""Stage `evaluate`: every number about the teacher, the students, and the file that ships."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgec.bench.footprint import size_measurement
from edgec.core.errors import UnsupportedError
from edgec.core.facts import LatencyCurve, OperatorLatency, ReliabilityBin
from edgec.core.frozen import Frozen
from edgec.core.host import describe_host
from edgec.core.measurement import Measurement, Stage
from edgec.core.samples import Samples
from edgec.core.target import Quantization
from edgec.evaluate.accuracy import (
    accuracy_measurements,
    agreement_measurement,
    calibration_measurement,
    confusion_counts,
    reliability_of,
)
from edgec.evaluate.bootstrap import class_mean_rows
from edgec.evaluate.loss import Loss, find_loss
from edgec.evaluate.paired import Pairs, drop_measurements
from edgec.graph.float16 import ROUNDED
from edgec.pipeline.confidence import prior_rows, shift_of, temperature_note, unknown_rates, unknown_threshold
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.remedies import explained
from edgec.pipeline.robustness import RunningModel, robustness_measurements
from edgec.pipeline.sources import Sources
from edgec.pipeline.speed import speed_of, with_teacher
from edgec.pipeline.stages import compress, data, deck, export
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey
from edgec.runtime import Session

__all__ = ["LOGITS", "Facts", "key", "run"]

LOGITS = "logits.npz"

NAMED = 5
"""Classes that an error names."""


READS = (
    *MODEL_SETTINGS,
    *(f"config.{name}" for name in ("evaluate", "export", "quantize", "seed")),
    *("target", "calibration", "accelerator", "compresses", "data.ood_count", "data.max_unreadable"),
    *("config.compress.robust", "config.compress.robust_share"),  # what is tried against a loss trains anew
    *("is_deck", "config.deck.members"),
)


class Facts(Frozen):
    """What was measured and predicted.

    Attributes:
        measurements: Of every model.
        rounded_to: What results of the artifact were rounded to, where its target computes in that format.
        confusion: Test images by true class (rows) and given class (columns), by stage.
        reliability: How often answers are right by how sure the model was of them, by stage.
        operators: The slowest on the device, by its profile.
        curves: How the times of single runs were spread here.
        loss: What the file that ships lost of what its FP32 graph had.
        notes: What the reader should know.
        unknown_below: The confidence below which an image is unknown.
    """

    measurements: tuple[Measurement, ...]
    rounded_to: Literal["float16"] | None
    confusion: Mapping[Stage, tuple[tuple[int, ...], ...]]
    reliability: Mapping[Stage, tuple[ReliabilityBin, ...]]
    operators: tuple[OperatorLatency, ...]
    curves: tuple[LatencyCurve, ...]
    loss: Loss | None
    notes: tuple[str, ...]
    unknown_below: float


def key(plan: Plan) -> StageKey:
    """Measurements."""
    students = (compress.plain_key(plan), compress.few_key(plan), compress.key(plan))
    before = (data.key(plan), *students, export.key(plan), deck.shipped_key(plan))
    return plan.key("evaluate", READS, opens=("model", "prior", "test", "ood"), after=before)


def run(
    sources: Sources,
    folder: Path,
    *,
    images: Prepared,
    models: Mapping[Stage, Path],
    ranges: Path,
    students: Mapping[Stage, Path],
    trained_on: tuple[int, ...] | None,
    temperature: float | None,
) -> Facts:
    """Runs every model over the test images, and the files that would ship over one image again and again.

    Args:
        sources: Teacher and test images.
        folder: Gets `logits.npz`, a row per test image, by stage.
        images: The few samples: their counts sort classes into head, medium and tail.
        models: ONNX files of the stages `compressed` and `artifact`.
        ranges: As they were calibrated, for what was lost in the file that ships.
        students: Folders of the students that are shown beside it.
        trained_on: Images of each class by which the graphs shift their logits; None where they do not.
        temperature: By which the graphs divide their logits; None where they have none.

    Raises:
        UnsupportedError: A model gives logits that are not finite.
    """
    test = sources.test
    shift = shift_of(sources, trained_on)
    logits = _logits(sources, models, students, shift)
    arrays: dict[str, Any] = {stage.value: rows for stage, rows in logits.items()}
    np.savez(folder / LOGITS, labels=test.labels, **arrays)
    rows = [row for stage in logits for row in _accuracy_rows(sources, images, logits, stage, graphs=models)]
    rows += [size_measurement(path, stage=stage) for stage, path in models.items()]
    prior, prior_notes = prior_rows(sources, trained_on, logits[Stage.TEACHER])
    sure_rows, sure_notes, unknown_below = _confidence(sources, images, models, logits, rows, temperature, shift)
    robust_rows, robust_notes = robustness_measurements(sources, images, partial(_runners, sources, models, shift))
    deck_notes = _answered(sources, models[Stage.ARTIFACT]) if sources.plan.is_deck else []
    with with_teacher(sources, models) as graphs:
        speed = speed_of(sources, graphs)
    confusion = {stage: confusion_counts(scores, test.labels, sources.labels) for stage, scores in logits.items()}
    return Facts(
        measurements=(*rows, *prior, *sure_rows, *robust_rows, *speed.measurements),
        rounded_to="float16" if sources.emulates_half else None,
        confusion={stage: tuple(map(tuple, counts.tolist())) for stage, counts in confusion.items()},
        reliability={stage: reliability_of(scores, test.labels) for stage, scores in logits.items()},
        operators=speed.operators,
        curves=speed.curves,
        loss=_loss(sources, images, models, logits, ranges),
        notes=(*prior_notes, *deck_notes, *sure_notes, *robust_notes, *speed.notes),
        unknown_below=unknown_below,
    )


def _confidence(
    sources: Sources,
    images: Prepared,
    models: Mapping[Stage, Path],
    logits: Mapping[Stage, np.ndarray],
    rows: Sequence[Measurement],
    temperature: float | None,
    shift: np.ndarray | float,
) -> tuple[list[Measurement], list[str], float]:
    """What the temperature did, and when the shipped file says `unknown`: rows, notes, and the threshold."""
    found, notes = list[Measurement](), list[str]()
    where = _where(sources, Stage.ARTIFACT, is_graph=True)
    if temperature is not None and not sources.plan.is_deck:  # each member has one of its own
        unscaled = logits[Stage.ARTIFACT] * temperature
        before = calibration_measurement(unscaled, sources.test.labels, stage=Stage.ARTIFACT, where=where)
        found.append(before.model_copy(update={"name": "calibration_error_without_temperature"}))
        errors = {row.stage: row for row in rows if row.name == "calibration_error"}
        after, teacher = errors[Stage.ARTIFACT], errors[Stage.TEACHER]
        notes.append(temperature_note(temperature, before=before, after=after, teacher=teacher))
    shipped = _session(sources, Stage.ARTIFACT, models[Stage.ARTIFACT])
    threshold = unknown_threshold(sources, images, shipped, shift=shift)
    more, told = unknown_rates(sources, images, shipped, logits[Stage.ARTIFACT], threshold, where=where)
    return [*found, *more], [*notes, *told], threshold


def _loss(
    sources: Sources, images: Prepared, models: Mapping[Stage, Path], logits: Mapping[Stage, np.ndarray], ranges: Path
) -> Loss | None:
    """What the file that ships lost of what its FP32 graph had."""
    fp32, shipped, scheme = logits[Stage.COMPRESSED], logits[Stage.ARTIFACT], sources.plan.target.quantization.scheme
    loss = find_loss(fp32, shipped, sources.test.labels, sources.labels, scheme=scheme.value)
    if loss is None or sources.plan.is_deck:  # what int8 costs is looked for in one net
        return loss
    return explained(loss, sources, images, models[Stage.COMPRESSED], ranges, models[Stage.ARTIFACT])


def _accuracy_rows(
    sources: Sources, images: Prepared, logits: Mapping[Stage, np.ndarray], stage: Stage, *, graphs: Collection[Stage]
) -> Iterator[Measurement]:
    """How well a model does, and what it lost against the teacher."""
    labels, classes, scores, teacher = sources.test.labels, sources.labels, logits[stage], logits[Stage.TEACHER]
    _require_finite(scores, sources.test, classes, stage=stage, formats=sources.plan.target.quantization)
    common = {"stage": stage, "where": _where(sources, stage, is_graph=stage in graphs)}
    counts = images.few.counts
    yield from accuracy_measurements(scores, labels, classes, train_counts=counts, **common)
    if stage is not Stage.TEACHER:
        yield from drop_measurements(scores, teacher, labels, classes, **common)
        yield agreement_measurement(scores, teacher, **common)
        pairs = Pairs(truth=labels, first=teacher.argmax(axis=1), second=scores.argmax(axis=1), classes=classes)
        yield from class_mean_rows(pairs, what="drop", train_counts=counts, **common)


def _where(sources: Sources, stage: Stage, *, is_graph: bool) -> str:
    """What ran a model of the build."""
    in_engine = is_graph or sources.plan.model.is_onnx
    where = f"{sources.engine if in_engine else 'torch'}, {describe_host()}"
    return f"{ROUNDED}, {where}" if stage is Stage.ARTIFACT and sources.emulates_half else where


def _logits(
    sources: Sources, models: Mapping[Stage, Path], students: Mapping[Stage, Path], shift: np.ndarray | float
) -> dict[Stage, np.ndarray]:
    """Logits of the test images: the files by the runtime that will run them, the modules by torch.

    The teacher's are as it was given. All students' are shifted alike, so that they differ in nothing but how they were
    compressed.
    """
    logits: dict[Stage, np.ndarray] = {}
    if not sources.plan.model.is_onnx:
        from edgec.models.infer import logits_of

        device = sources.fabric.device
        logits[Stage.TEACHER] = logits_of(sources.classifier, sources.test, device=device)
        for stage, folder in students.items():
            logits[stage] = logits_of(sources.student(folder), sources.test, device=device) + shift
    for stage, path in models.items():
        session = _session(sources, stage, path)
        total = -(-len(sources.test) // 256)
        what = f"evaluating {stage.value}"
        batches = sources.progress.track(sources.test.batches(256), total=total, what=what, unit="batch")
        logits[stage] = np.concatenate([session.logits(batch) for batch in batches])
    if sources.plan.model.is_onnx:
        logits = {Stage.TEACHER: logits[Stage.COMPRESSED] - shift, **logits}
    return logits


def _answered(sources: Sources, shipped: Path) -> list[str]:
    """Which member of a deck answers for the test images."""
    session, members = sources.shipped_session(shipped), sources.plan.config.deck.members
    session.logits_of(sources.test)
    counts = session.answers
    shares = ", ".join(f"'{name}' {100 * counts[at] / len(sources.test):.1f} %" for at, name in enumerate(members))
    return [f"deck: of the test images, {shares} are answered by that member"]


def _runners(sources: Sources, models: Mapping[Stage, Path], shift: np.ndarray | float) -> dict[Stage, RunningModel]:
    """The teacher as it was given, and the file that ships."""
    shipped = _session(sources, Stage.ARTIFACT, models[Stage.ARTIFACT])
    artifact = RunningModel(run=shipped.logits, where=_where(sources, Stage.ARTIFACT, is_graph=True))
    if sources.plan.model.is_onnx:
        before = sources.session(models[Stage.COMPRESSED])
        run = lambda pixels: before.logits(pixels) - shift  # noqa: E731 - as `to_logits` is bound below
    else:
        from edgec.models.infer import to_logits

        run = partial(to_logits, sources.classifier, device=sources.fabric.device)
    teacher = RunningModel(run=run, where=_where(sources, Stage.TEACHER, is_graph=False))
    return {Stage.TEACHER: teacher, Stage.ARTIFACT: artifact}


def _session(sources: Sources, stage: Stage, path: Path) -> Session:
    return sources.shipped_session(path) if stage is Stage.ARTIFACT else sources.session(path)


def _require_finite(
    scores: np.ndarray, test: Samples, names: Sequence[str], *, stage: Stage, formats: Quantization
) -> None:
    lost = ~np.all(np.isfinite(scores), axis=1)
    if not np.any(lost):
        return
    counts, of = (np.bincount(labels, minlength=len(names)).tolist() for labels in (test.labels[lost], test.labels))
    worst = sorted((i for i, count in enumerate(counts) if count), key=lambda i: -counts[i] / of[i])
    named = ", ".join(f"'{names[i]}' ({counts[i]} of {of[i]})" for i in worst[:NAMED])
    more = f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    which = "float_type" if formats.scheme.is_int8 else "scheme"
    too_large = f"float16 ends at 65,504 and an activation goes beyond: set quantize.{which} = 'float32'"
    in_half = stage is Stage.ARTIFACT and formats.computes_in_half
    raise UnsupportedError(
        f"{stage.value} model: logits of {sum(counts)} of {len(test)} test images are not finite: class {named}{more}",
        hint=too_large if in_half else "look for weights or activations that are not finite in the model as given",
    )
