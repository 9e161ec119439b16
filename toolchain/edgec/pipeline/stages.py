"""The stages between images and graph: each reads what earlier ones left, writes files, returns facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.classifier import Classifier
from edgec.core.digest import digest_bytes
from edgec.core.errors import ContractError
from edgec.pipeline.agreement import require_agreement
from edgec.pipeline.prepare import Prepared
from edgec.pipeline.sources import Sources

__all__ = ["FP32", "MODEL", "RANGES", "calibrate", "compress", "compressed", "export", "quantize"]

FP32 = "fp32.onnx"
MODEL = "model.onnx"
RANGES = "ranges.json"


def compress(sources: Sources, images: Prepared, folder: Path, *, rebalance: bool) -> Mapping[str, Any]:
    """Stages `baseline` and `compress`: a student that is there when it is read back.

    Raises:
        ContractError: As `compressed`, or the student cannot be stored.
    """
    from edgec.models.checkpoint import load_student, save_student
    from edgec.models.infer import logits_of

    teacher = sources.classifier
    student = compressed(sources, images, rebalance=rebalance)
    save_student(student, folder)
    if not np.array_equal(logits_of(student, images.few), logits_of(load_student(teacher, folder), images.few)):
        name = sources.plan.config.compress.method
        raise ContractError(f"compression method '{name}' made a model that cannot be stored and read back")
    return {step.method: dict(step.facts) for step in student.history[len(teacher.history) :]}


def compressed(sources: Sources, images: Prepared, *, rebalance: bool) -> Classifier:
    """Prunes and recovers, with OOD images or without.

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
        budget=plan.config.compress,
        channel_multiple=plan.target.rules.channel_multiple,
        seed=plan.config.seed,
        fabric=sources.fabric,
    )
    before = _fingerprint(teacher)
    if rebalance:
        student = oefsmc.compress(
            job, images.ood, method, options, plan.config.compress.oefsmc, progress=sources.progress
        )
    else:
        student = method.function(job, options, progress=sources.progress)
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
    facts = {"opset": plan.target.runtime.opset, "preprocess_in_graph": raw}
    return {**facts, **require_agreement(classifier, session, (images.few, images.ood))}


def calibrate(sources: Sources, images: Prepared, model: Path, folder: Path) -> Mapping[str, Any]:
    """Stage `calibrate`: activation ranges from a set in which every class has the same say."""
    from edgec.calibrate import calibration_set, observe_ranges
    from edgec.compress.labels import assign_labels

    plan = sources.plan
    rng = np.random.default_rng(plan.config.seed)
    labels = assign_labels(images.calibration.counts, len(images.ood), rng)
    chosen = calibration_set(images.calibration, images.ood, labels, plan.calibration, seed=plan.config.seed)
    ranges = observe_ranges(
        model,
        chosen,
        plan.calibration,
        target=plan.target,
        feed=sources.session(model).feed,
        progress=sources.progress,
    )
    (folder / RANGES).write_text(ranges.to_json(), encoding="utf-8")
    return {**asdict(chosen.facts()), "observer": plan.calibration.observer}


def quantize(sources: Sources, model: Path, ranges: Path, folder: Path) -> Mapping[str, Any]:
    """Stage `quantize`: the graph that ships, in the target's scheme."""
    from edgec.calibrate import Ranges
    from edgec.quantize import quantize_model

    read = Ranges.from_json(ranges.read_text(encoding="utf-8"))
    return asdict(quantize_model(model, read, sources.plan.target, output=folder / MODEL))
