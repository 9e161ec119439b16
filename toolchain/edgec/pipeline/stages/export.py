"""Stage `export`: the FP32 graph, which must agree with the module on real images before anything builds on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgec.core.frozen import Frozen
from edgec.learn.prior_estimate import PriorEstimate
from edgec.pipeline.agreement import require_agreement, require_same_classes
from edgec.pipeline.confidence import match_teacher, shift_of, take_prior_out
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.prior import estimated_prior
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

__all__ = ["FP32", "Facts", "key", "run"]

FP32 = "fp32.onnx"

READS = (
    *MODEL_SETTINGS,
    *("config.export", "target.runtime.opset", "target.runtime.engine", "accelerator", "config.seed"),
)


class Facts(Frozen):
    """Where the graph comes from; the rest where it was exported from a module.

    Attributes:
        source: Whether it was given or exported.
        done: What was done to a graph that was given.
        opset: Its operator set.
        preprocess_in_graph: Whether it takes pixels from 0 to 255.
        images: Images on which the graph was compared with the module or the file.
        same_class: Share of them to which both give the same class.
        max_difference: Of the logits.
        trained_on: Images of each class that the teacher was trained on, or an estimate in proportion to them, where
            that was taken out of the logits.
        prior: What was estimated of these frequencies, where that was asked for.
        temperature: By which the graph divides its logits.
    """

    source: Literal["as given", "exported"]
    done: tuple[str, ...] = ()
    opset: int | None = None
    preprocess_in_graph: bool | None = None
    images: int | None = None
    same_class: float | None = None
    max_difference: float | None = None
    trained_on: tuple[int, ...] | None = None
    prior: PriorEstimate | None = None
    temperature: float | None = None


def key(plan: Plan) -> StageKey:
    """The FP32 graph."""
    return plan.key("export", READS, opens=("model", "prior"), after=(data.key(plan), compress.key(plan)))


def run(sources: Sources, folder: Path, *, images: Prepared, student: Path | None) -> Facts:
    """Writes `fp32.onnx`.

    Args:
        sources: Plan and teacher.
        folder: Where the graph goes.
        images: What module and graph are compared on.
        student: What stage `compress` left; None where the teacher itself is exported.

    Raises:
        ExportMismatchError: The graph disagrees with the module.
    """
    plan = sources.plan
    if plan.model.is_onnx:
        from edgec.graph.opset import opset_of

        model = sources.onnx
        (folder / FP32).write_bytes(model.proto.SerializeToString(deterministic=True))
        agreed = require_same_classes(model.given, sources.session(folder / FP32), (images.few, images.ood))
        how = {"source": "as given", "done": model.told, "opset": opset_of(model.proto)}
        prior = _estimated(sources, images, folder)
        trained_on = take_prior_out(sources, images, folder / FP32, prior)
        return Facts(**how, trained_on=trained_on, prior=prior, **agreed._asdict())
    from edgec.export.onnx import export_onnx

    classifier = sources.classifier if student is None else sources.student(student)
    opset, raw = plan.target.runtime.opset, plan.config.export.preprocess_in_graph
    export_onnx(classifier, folder / FP32, opset=opset, preprocess_in_graph=raw)
    agreement = require_agreement(classifier, sources.session(folder / FP32), (images.few, images.ood))
    prior = _estimated(sources, images, folder)
    trained_on, temperature = take_prior_out(sources, images, folder / FP32, prior), None
    if student is not None and plan.config.export.match_confidence:
        shift = shift_of(sources, trained_on)
        temperature = match_teacher(sources, images, classifier, folder / FP32, shift=shift)
    how = {"source": "exported", "opset": opset, "preprocess_in_graph": raw}
    return Facts(**how, trained_on=trained_on, prior=prior, temperature=temperature, **agreement._asdict())


def _estimated(sources: Sources, images: Prepared, folder: Path) -> PriorEstimate | None:
    """What is estimated of the teacher's class frequencies, where that was asked for; said as well."""
    estimate = estimated_prior(sources, images, folder / FP32)
    if estimate is not None:
        sources.progress.note(estimate.told)
    return estimate
