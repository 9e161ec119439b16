"""How sure the shipped model is: a temperature that gives it the teacher's confidence, and when it says `unknown`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.files import write_bytes
from edgec.core.samples import Images
from edgec.evaluate.unknown import fit_threshold, unknown_measurements
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.data import Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from edgec.core.classifier import Classifier
    from edgec.core.measurement import Measurement
    from edgec.learn.temperature import Run
    from edgec.runtime import Session

__all__ = ["match_teacher", "temperature_note", "unknown_rates", "unknown_threshold"]

_BATCH = 256
_UNSEEN = 200
"""Out-of-distribution images that the threshold is measured on, where the config asks for no number of them."""


def match_teacher(sources: Sources, images: Prepared, student: Classifier, graph: Path) -> float:
    """Divides a student's exported logits by the temperature that fits the teacher, and returns it."""
    import onnx

    from edgec.export.temperature import divide_logits_
    from edgec.learn.temperature import fit_temperature, views_of

    plan = sources.plan
    with _module(sources, sources.classifier) as teacher, _module(sources, student) as run:
        views = views_of(images.few, plan.model.input, teacher, run, seed=plan.config.seed)
    temperature = float(f"{fit_temperature(views):.4g}")
    model = onnx.load(graph)
    divide_logits_(model, temperature)
    write_bytes(graph, model.SerializeToString(deterministic=True))
    return temperature


def temperature_note(temperature: float, *, before: Measurement, after: Measurement, teacher: Measurement) -> str:
    """What the temperature did."""
    errors = ", ".join(
        f"{100 * row.value:.1f} % {what}"
        for row, what in ((before, "without it"), (after, "with it"), (teacher, "of the teacher"))
    )
    return f"logits are divided by a temperature of {temperature:g}, fitted to the teacher: calibration error {errors}"


def unknown_threshold(sources: Sources, images: Prepared, shipped: Session) -> float:
    """The confidence below which the shipped file should say `unknown`: no class loses more than the config allows."""
    from edgec.learn.temperature import probabilities, views_of

    plan = sources.plan
    run = _graph(sources, shipped)
    with _teacher(sources, run) as teacher:
        views = views_of(images.few, plan.model.input, teacher, run, seed=plan.config.seed)
    confidence = probabilities(views.student).max(axis=1)
    return fit_threshold(confidence, views.labels, views.weights, most=plan.config.evaluate.unknown)


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


@contextmanager
def _module(sources: Sources, classifier: Classifier) -> Iterator[Run]:
    """A module on the build's device."""
    import torch

    from edgec.models.infer import placed

    device = sources.fabric.device
    with placed(classifier.module, device) as module:

        def run(batch: Tensor) -> np.ndarray:
            with torch.inference_mode():
                return module(batch.to(device)).float().cpu().numpy()

        yield run


def _graph(sources: Sources, session: Session) -> Run:
    """A graph, which may want pixels from 0 to 255."""
    import torch

    spec = sources.plan.model.input
    scale, shift = (torch.tensor(values)[:, None, None] for values in (spec.scale, spec.shift))
    raw = sources.raw

    def run(batch: Tensor) -> np.ndarray:
        return session.logits(((batch - shift) / scale if raw else batch).float().numpy())

    return run


@contextmanager
def _teacher(sources: Sources, shipped: Run) -> Iterator[Run]:
    """The module; where a graph was given, what ships of it."""
    if sources.plan.model.is_onnx:
        yield shipped
        return
    with _module(sources, sources.classifier) as teacher:
        yield teacher
