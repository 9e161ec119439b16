"""The logits of what ships: adjusted by the teacher's class frequencies, as sure as the teacher, perhaps `unknown`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.files import write_bytes
from edgec.core.measurement import Stage
from edgec.core.samples import Images
from edgec.evaluate.unknown import fit_threshold, unknown_measurements
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.data import Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from edgec.core.classifier import Classifier
    from edgec.core.measurement import Measurement
    from edgec.learn.prior_estimate import PriorEstimate
    from edgec.learn.temperature import Run, Views
    from edgec.runtime import Session

__all__ = [
    "as_taken",
    "graph_run",
    "logits_through",
    "match_teacher",
    "prior_rows",
    "shift_of",
    "take_prior_out",
    "teacher_beside",
    "teacher_run",
    "temperature_note",
    "unknown_rates",
    "unknown_threshold",
    "views_through",
]

_BATCH = 256
_UNSEEN = 200
"""Out-of-distribution images that the threshold is measured on, where the config asks for no number of them."""


def take_prior_out(
    sources: Sources, images: Prepared, graph: Path, estimate: PriorEstimate | None
) -> tuple[int, ...] | None:
    """Shifts the logits of an exported graph by the class frequencies of the teacher's training.

    Args:
        sources: What was said of these frequencies.
        images: The few samples.
        graph: What to shift.
        estimate: What was estimated, where that was asked for.

    Returns:
        The counts that it went by; None where nothing was to do.
    """
    from edgec.learn.prior import training_counts

    strength = sources.plan.config.export.adjust_logits
    counts = training_counts(sources.plan.model.trained_on, images.few, estimate) if strength else None
    if counts is None:
        return None
    import onnx

    from edgec.export.logits import shift_logits_
    from edgec.learn.prior import logit_shift

    model = onnx.load(graph)
    shift_logits_(model, logit_shift(counts, strength=strength))
    write_bytes(graph, model.SerializeToString(deterministic=True))
    return tuple(counts.tolist())


def shift_of(sources: Sources, trained_on: Sequence[int] | np.ndarray | None) -> np.ndarray | float:
    """What `take_prior_out` added to each class's logit; 0 where it did nothing."""
    if trained_on is None:
        return 0.0
    from edgec.learn.prior import logit_shift

    return logit_shift(trained_on, strength=sources.plan.config.export.adjust_logits).astype(np.float32)


def prior_rows(
    sources: Sources, trained_on: Sequence[int] | None, teacher: np.ndarray
) -> tuple[list[Measurement], list[str]]:
    """What taking its class frequencies out does to the teacher itself, on the test images: rows and a note."""
    from edgec.evaluate.accuracy import accuracy_measurements

    if trained_on is None:
        return [], []
    named, test = ("accuracy", "worst_class_accuracy"), sources.test
    common = {"stage": Stage.TEACHER, "where": "as given, its logits adjusted"}
    found, before = (
        {row.name: row for row in accuracy_measurements(scores, test.labels, sources.labels, **common) if not row.label}
        for scores in (teacher + shift_of(sources, trained_on), teacher)
    )
    rows = [found[name].model_copy(update={"name": f"{name}_without_prior"}) for name in named]
    told = ", ".join(
        f"{what} {100 * before[name].value:.1f} → {100 * found[name].value:.1f} %"
        for name, what in zip(named, ("accuracy", "worst class"), strict=True)
    )
    note = f"logits are adjusted by the class frequencies of model.trained_on; what that does to the teacher: {told}"
    worse = all(found[name].value < before[name].value for name in named)
    return rows, [f"{note}; both fall: was it trained on these?" if worse else note]


def match_teacher(
    sources: Sources, images: Prepared, student: Classifier, graph: Path, *, shift: np.ndarray | float
) -> float:
    """Divides a student's exported logits by the temperature that fits the teacher, and returns it.

    The logits of both are as they ship: shifted by the teacher's class frequencies.
    """
    import onnx

    from edgec.export.logits import divide_logits_
    from edgec.learn.temperature import fit_temperature, views_of

    plan = sources.plan
    with _module(sources, sources.classifier, shift) as teacher, _module(sources, student, shift) as run:
        views = views_of(images.few, plan.model.input, teacher, run, seed=plan.config.seed)
    temperature = float(f"{fit_temperature(views):.4g}")
    model = onnx.load(graph)
    divide_logits_(model, temperature)
    write_bytes(graph, model.SerializeToString(deterministic=True))
    return temperature


@contextmanager
def teacher_run(sources: Sources, graph: Path) -> Iterator[Run]:
    """The teacher as it was given: the module, or the graph before anything was done to its logits."""
    if sources.plan.model.is_onnx:
        yield graph_run(sources, sources.session(graph))
        return
    with _module(sources, sources.classifier, 0.0) as run:
        yield run


def temperature_note(temperature: float, *, before: Measurement, after: Measurement, teacher: Measurement) -> str:
    """What the temperature did."""
    errors = ", ".join(
        f"{100 * row.value:.1f} % {what}"
        for row, what in ((before, "without it"), (after, "with it"), (teacher, "of the teacher"))
    )
    return f"logits are divided by a temperature of {temperature:g}, fitted to the teacher: calibration error {errors}"


def unknown_threshold(sources: Sources, images: Prepared, shipped: Session, *, shift: np.ndarray | float) -> float:
    """The confidence below which the shipped file should say `unknown`: no class loses more than the config allows."""
    from edgec.learn.temperature import probabilities

    views = views_through(sources, images, shipped, shift=shift)
    confidence = probabilities(views.student).max(axis=1)
    return fit_threshold(confidence, views.labels, views.weights, most=sources.plan.config.evaluate.unknown)


def views_through(sources: Sources, images: Prepared, shipped: Session, *, shift: np.ndarray | float) -> Views:
    """Changed few samples, and what the teacher and the file that ships make of them."""
    from edgec.learn.temperature import views_of

    run, plan = graph_run(sources, shipped), sources.plan
    with teacher_beside(sources, run, shift) as teacher:
        return views_of(images.few, plan.model.input, teacher, run, seed=plan.config.seed)


def unknown_rates(
    sources: Sources, images: Prepared, shipped: Session, logits: np.ndarray, threshold: float, *, where: str
) -> tuple[list[Measurement], list[str]]:
    """What the threshold does to test images, class by class, and to out-of-distribution images; notes on it."""
    unseen_ood, trained_on = _unseen_ood(sources, images)
    others = np.concatenate([shipped.logits(batch) for batch in unseen_ood.batches(_BATCH)])
    test = sources.test
    rows = list(unknown_measurements(logits, test.labels, others, sources.labels, threshold=threshold, where=where))
    most, foreign = sources.plan.config.evaluate.unknown, rows[-1]
    worst = max((row for row in rows if row.label is not None), key=lambda row: row.value)
    seen = "that recovery learned from, as none were left" if trained_on else "that nothing learned from"
    told = (
        f"--unknown rejects what is less sure than {threshold:.3g}: {100 * rows[0].value:.1f} % of the test images, at "
        f"most {100 * worst.value:.1f} % of a class ('{worst.label}'), and {100 * foreign.value:.1f} % of {foreign.n} "
        f"out-of-distribution images {seen}"
    )
    notes = [told]
    if worst.low is not None and worst.low > most:
        notes.append(
            f"class '{worst.label}': {100 * worst.value:.1f} % of its test images would be called unknown, more than "
            f"evaluate.unknown = {most:g} allows: its few samples do not show how its images vary"
        )
    return rows, notes


def _unseen_ood(sources: Sources, images: Prepared) -> tuple[Images, bool]:
    """Out-of-distribution images that nothing learned from; the pool where there are none, and whether it is that."""
    from edgec.pipeline.robustness import unseen_ood

    found = unseen_ood(sources, images, sources.plan.config.evaluate.unseen_ood or _UNSEEN)
    return (found, False) if len(found) else (images.ood, True)


def logits_through(
    sources: Sources, images: Images, shipped: Session, *, shift: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """What the teacher and the file that ships make of images: logits of both, a row an image."""
    from edgec.models.infer import to_tensor

    run, spec = graph_run(sources, shipped), sources.plan.model.input
    with teacher_beside(sources, run, shift) as teacher:
        batches = [to_tensor(pixels, spec) for pixels in images.batches(_BATCH)]
        first, second = (np.concatenate([of(batch) for batch in batches]) for of in (teacher, run))
    return first, second


@contextmanager
def _module(sources: Sources, classifier: Classifier, shift: np.ndarray | float) -> Iterator[Run]:
    """A module on the build's device, with its logits shifted."""
    import torch

    from edgec.models.infer import placed

    device = sources.fabric.device
    with placed(classifier.module, device) as module:

        def run(batch: Tensor) -> np.ndarray:
            with torch.inference_mode():
                return module(batch.to(device)).float().cpu().numpy() + shift

        yield run


def graph_run(sources: Sources, session: Session) -> Run:
    """A graph, which may want pixels from 0 to 255."""
    return lambda batch: session.logits(as_taken(sources, batch))


def as_taken(sources: Sources, batch: Tensor) -> np.ndarray:
    """Normalised images as the graph takes them: perhaps as pixels from 0 to 255."""
    import torch

    spec = sources.plan.model.input
    scale, shift = (torch.tensor(values)[:, None, None] for values in (spec.scale, spec.shift))
    return ((batch - shift) / scale if sources.raw else batch).float().numpy()


@contextmanager
def teacher_beside(sources: Sources, shipped: Run, shift: np.ndarray | float) -> Iterator[Run]:
    """The module; where a graph was given, what ships of it."""
    if sources.plan.model.is_onnx:
        yield shipped
        return
    with _module(sources, sources.classifier, shift) as teacher:
        yield teacher
