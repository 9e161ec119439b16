"""The stages between images and graph: each reads what earlier ones left, writes files, returns facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.compress.config import Variant
from edgec.core.classifier import Classifier
from edgec.core.digest import digest_bytes
from edgec.core.errors import ContractError
from edgec.pipeline.agreement import require_agreement
from edgec.pipeline.prepare import Prepared
from edgec.pipeline.sources import Sources

if TYPE_CHECKING:
    from edgec.calibrate import CalibrationSet, Ranges
    from edgec.runtime import Session

__all__ = [
    "FP32",
    "MODEL",
    "RANGES",
    "calibrate",
    "calibrating",
    "compress",
    "compressed",
    "export",
    "prove",
    "quantize",
]

FP32 = "fp32.onnx"
MODEL = "model.onnx"
RANGES = "ranges.json"


def compress(
    sources: Sources, images: Prepared, folder: Path, *, variant: Variant, few: Path | None = None
) -> Mapping[str, Any]:
    """Stages `baseline`, `few` and `compress`: a student that is there when it is read back.

    Args:
        sources: Plan, teacher and device.
        images: The few samples and the OOD pool.
        folder: Where the student goes.
        variant: As `compressed` has it.
        few: What stage `few` left, where it ran.

    Raises:
        ContractError: As `compressed`, or the student cannot be stored.
    """
    from edgec.models.checkpoint import load_student, save_student
    from edgec.models.infer import logits_of

    teacher = sources.classifier
    alone = None if few is None else sources.student(few)
    student = compressed(sources, images, variant=variant, alone=alone)
    save_student(student, folder)
    if not np.array_equal(logits_of(student, images.few), logits_of(load_student(teacher, folder), images.few)):
        name = sources.plan.config.compress.method
        raise ContractError(f"compression method '{name}' made a model that cannot be stored and read back")
    return {step.method: dict(step.facts) for step in student.history[len(teacher.history) :]}


def compressed(sources: Sources, images: Prepared, *, variant: Variant, alone: Classifier | None = None) -> Classifier:
    """Prunes and recovers.

    Args:
        sources: Plan, teacher and device.
        images: The few samples and the OOD pool.
        variant: By the method alone, by our recipe on the few samples, or with the OOD images.
        alone: What variant `few` gives, where that is known already.

    Raises:
        ContractError: The method changed the teacher, or returned a model of another shape.
    """
    from edgec.compress import oefsmc
    from edgec.compress.job import CompressJob

    plan, teacher = sources.plan, sources.classifier
    method, options = sources.method
    job = CompressJob(
        teacher=teacher,
        few=images.few,
        unlabelled=images.unlabelled,
        budget=plan.config.compress,
        rules=plan.target.rules,
        seed=plan.config.seed,
        fabric=sources.fabric,
    )
    before = _fingerprint(teacher)
    if variant == "plain":
        student = method.function(job, options, progress=sources.progress)
    else:
        ood = images.ood if variant == "ours" else None
        recipe, progress = plan.config.compress.oefsmc, sources.progress
        student = oefsmc.compress(job, ood, method, options, recipe, alone=alone, progress=progress)
    if _fingerprint(teacher) != before:
        raise ContractError(f"compression method '{method.name}' changed the teacher that it was given")
    if (student.input, student.labels) != (teacher.input, teacher.labels):
        raise ContractError(f"compression method '{method.name}' changed the input or the labels")
    return student


def _fingerprint(classifier: Classifier) -> str:
    state = classifier.module.state_dict()
    return digest_bytes(b"".join(name.encode() + tensor.cpu().numpy().tobytes() for name, tensor in state.items()))


def export(sources: Sources, images: Prepared, student: Path | None, folder: Path) -> Mapping[str, Any]:
    """Stage `export`: the FP32 graph, which must agree with the module on real images before anything builds on it."""
    plan = sources.plan
    if plan.model.is_onnx:
        (folder / FP32).write_bytes(sources.onnx.path.read_bytes())
        return {"source": "as given"}
    from edgec.export.onnx import export_onnx

    classifier = sources.classifier if student is None else sources.student(student)
    raw = plan.config.export.preprocess_in_graph
    export_onnx(classifier, folder / FP32, opset=plan.target.runtime.opset, preprocess_in_graph=raw)
    session = sources.session(folder / FP32)
    facts: dict[str, Any] = {"opset": plan.target.runtime.opset, "preprocess_in_graph": raw}
    facts |= require_agreement(classifier, session, (images.few, images.ood))
    if student is not None and plan.config.export.match_confidence:
        from edgec.pipeline.confidence import match_teacher

        facts |= match_teacher(sources, images, classifier, folder / FP32)
    return facts


def calibrate(
    sources: Sources, images: Prepared, model: Path, folder: Path, *, cache: Path | None = None
) -> Mapping[str, Any]:
    """Stage `calibrate`: activation ranges from a set in which every class has the say that the recipe gives it.

    Args:
        sources: Plan and progress.
        images: Labelled images and the OOD pool.
        model: The FP32 graph.
        folder: Where the ranges go.
        cache: A folder of ranges that other builds may have read; None to read them here in any case.
    """
    from edgec.calibrate import cached_ranges, observe_ranges, ranges_key

    plan, session = sources.plan, sources.session(model)
    recipe, target = plan.calibration, plan.target
    chosen = calibrating(sources, images, session)

    def observe() -> Ranges:
        return observe_ranges(model, chosen, recipe, target=target, feed=session.feed, progress=sources.progress)

    fed = {"input": plan.model.input.model_dump(mode="json"), "raw": plan.config.export.preprocess_in_graph}
    key = ranges_key(model, chosen, recipe, target=target, fed=fed)
    ranges = observe() if cache is None else cached_ranges(cache, key, observe)
    (folder / RANGES).write_text(ranges.to_json(), encoding="utf-8")
    return {**asdict(chosen.facts()), "observer": recipe.observer, "ood_labels": recipe.ood_labels}


def calibrating(sources: Sources, images: Prepared, session: Session) -> CalibrationSet:
    """The calibration set of a plan's recipe."""
    from edgec.calibrate import calibration_set
    from edgec.learn.labels import assign_labels

    recipe, seed = sources.plan.calibration, sources.plan.config.seed
    if recipe.ood_labels == "teacher":
        labels = session.logits(images.ood.decoded()).argmax(axis=1)
    else:
        labels = assign_labels(images.calibration.counts, len(images.ood), np.random.default_rng(seed))
    return calibration_set(images.calibration, images.ood, labels, recipe, seed=seed)


def quantize(sources: Sources, images: Prepared, model: Path, ranges: Path, folder: Path) -> Mapping[str, Any]:
    """Stage `quantize`: the graph that ships, in the target's scheme, refined as far as the settings ask for it."""
    from edgec.calibrate import Ranges
    from edgec.export.metadata import metadata_of
    from edgec.quantize import quantize_model

    read = Ranges.from_json(ranges.read_text(encoding="utf-8"))
    plan, target, shipped = sources.plan, sources.plan.target, folder / MODEL
    raw = plan.config.export.preprocess_in_graph
    metadata = metadata_of(plan.model.input, sources.labels, preprocessing_in_graph=raw)
    if not plan.config.quantize.refines(target):
        return asdict(quantize_model(model, read, target, output=shipped, metadata=metadata))
    from edgec.pipeline.refining import REFINED, refined, refined_facts

    result = refined(sources, images, model, read, folder)
    facts = asdict(quantize_model(folder / REFINED, result.ranges, target, output=shipped, metadata=metadata))
    return {**facts, **refined_facts(sources, images, result, shipped)}


def prove(sources: Sources, quantized: Path, calibrated: Path, folder: Path) -> Mapping[str, Any]:
    """Stage `prove`: what TensorRT will say of the graph that ships, as far as that is known without the device.

    Args:
        sources: Plan and progress.
        quantized: The folder of stage `quantize`.
        calibrated: That of stage `calibrate`.
        folder: Nothing is written there.

    Raises:
        UnsupportedError: The linter finds an error, or TensorRT's parser or builder refuses the graph.
    """
    import onnx

    from edgec.calibrate import Ranges
    from edgec.export.ahead import prove as prove_ahead
    from edgec.export.lint import lint, require_clean
    from edgec.pipeline.refining import REFINED_RANGES

    del folder
    refined = quantized / REFINED_RANGES
    ranges = refined if refined.exists() else calibrated / RANGES
    kept = Ranges.from_json(ranges.read_text(encoding="utf-8")).floats
    target, model = sources.plan.target, quantized / MODEL
    findings = lint(onnx.load(model), target, kept=kept)
    require_clean(findings)
    proof = prove_ahead(model, target, kept=kept)
    sources.progress.note(f"TensorRT: {proof.note}")
    return {"findings": [asdict(finding) for finding in findings], **asdict(proof)}
