"""Stage `evaluate`: every number about the teacher, plain compression, ours, and the file that ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.host import describe_host
from edgec.core.measurement import Measurement, Stage
from edgec.core.target import Target
from edgec.evaluate.accuracy import accuracy_measurements, agreement_measurement, confusion_counts
from edgec.evaluate.footprint import memory_measurement, size_measurement
from edgec.evaluate.latency import latency_measurements, measure_latency
from edgec.evaluate.paired import drop_measurements
from edgec.evaluate.roofline import Prediction, predict_latency
from edgec.pipeline.prepare import Prepared
from edgec.pipeline.sources import Sources

__all__ = ["evaluate"]

SLOWEST = 10
"""Operators that the report names."""


def evaluate(
    sources: Sources, images: Prepared, models: Mapping[Stage, Path], baseline: Path | None, folder: Path
) -> Mapping[str, Any]:
    """Runs every model over the test images, and the files that would ship over one image again and again.

    Args:
        sources: Teacher and test images.
        images: The few samples: their counts sort classes into head, medium and tail.
        models: ONNX files of the stages `compressed` and `artifact`.
        baseline: The folder of plain compression's student.
        folder: Gets `logits.npz`, a row per test image, by stage.

    Returns:
        Measurements, confusion counts, the slowest operators and notes, as `report.json` holds them.
    """
    test, here = sources.test, describe_host()
    logits = _logits(sources, models, baseline)
    arrays: dict[str, Any] = {stage.value: rows for stage, rows in logits.items()}
    np.savez(folder / "logits.npz", labels=test.labels, **arrays)
    rows: list[Measurement] = []
    for stage, scores in logits.items():
        where = f"onnxruntime, {here}" if stage in models else f"torch, {here}"
        common = {"stage": stage, "where": where}
        counts = images.few.counts
        rows += accuracy_measurements(scores, test.labels, sources.labels, train_counts=counts, **common)
        if stage is not Stage.TEACHER:
            rows += drop_measurements(scores, logits[Stage.TEACHER], test.labels, sources.labels, **common)
            rows.append(agreement_measurement(scores, logits[Stage.TEACHER], **common))
    rows += [size_measurement(path, stage=stage) for stage, path in models.items()]
    device_rows, operators, notes = _on_device(sources, models[Stage.ARTIFACT])
    here_rows, here_notes = _on_this_machine(sources, models)
    return {
        "measurements": [row.model_dump(mode="json") for row in (*rows, *device_rows, *here_rows)],
        "confusion": {
            stage.value: confusion_counts(scores, test.labels, sources.labels).tolist()
            for stage, scores in logits.items()
        },
        "operators": operators,
        "notes": [*notes, *here_notes],
    }


def _logits(sources: Sources, models: Mapping[Stage, Path], baseline: Path | None) -> dict[Stage, np.ndarray]:
    """Logits of the test images: the files by the runtime that will run them, the modules by torch."""
    logits: dict[Stage, np.ndarray] = {}
    if not sources.plan.model.is_onnx:
        from edgec.models.infer import logits_of

        device = sources.fabric.device
        logits[Stage.TEACHER] = logits_of(sources.classifier, sources.test, device=device)
        if baseline is not None:
            logits[Stage.BASELINE] = logits_of(sources.student(baseline), sources.test, device=device)
    for stage, path in models.items():
        session = sources.session(path)
        total = -(-len(sources.test) // 256)
        what = f"evaluating {stage.value}"
        batches = sources.progress.track(sources.test.batches(256), total=total, what=what, unit="batch")
        logits[stage] = np.concatenate([session.logits(batch) for batch in batches])
    if sources.plan.model.is_onnx:
        logits = {Stage.TEACHER: logits[Stage.COMPRESSED], **logits}
    return logits


def _on_device(sources: Sources, artifact: Path) -> tuple[list[Measurement], list[dict[str, Any]], list[str]]:
    """What the profile predicts, where the device is not this machine."""
    target = sources.plan.target
    if target.compute is None:
        return [], [], []
    prediction = predict_latency(artifact, target)
    notes = [f"latency on {target.title} is predicted from its profile: no such device was at hand"]
    if target.runtime.engine == "tensorrt":
        notes.append("no TensorRT engine was built: engines fit one GPU and one TensorRT; the device builds its own")
    return [prediction.measurement(Stage.ARTIFACT)], _operators(prediction), notes


def _operators(prediction: Prediction) -> list[dict[str, Any]]:
    slowest = prediction.operators[:SLOWEST]
    return [{"name": cost.name, "op": cost.op_type, "ms": cost.latency_ms} for cost in slowest]


def _on_this_machine(sources: Sources, models: Mapping[Stage, Path]) -> tuple[list[Measurement], list[str]]:
    """Latency of one image, FP32 and as shipped, and the memory that a process needs for it."""
    target, spec = sources.plan.target, sources.plan.model.input
    where = target.title if target.family == "host" else describe_host()
    rows: list[Measurement] = []
    medians: dict[Stage, float] = {}
    image = sources.test.pixels[np.arange(1)]
    for stage, path in models.items():
        session = sources.session(path)
        tensor = session.feed(image)
        latency = measure_latency(lambda session=session, tensor=tensor: session.logits(tensor), max_seconds=3.0)
        rows += latency_measurements(latency, where=where, stage=stage)
        medians[stage] = latency.p50.value_ms
    raw = sources.plan.config.export.preprocess_in_graph
    rows.append(memory_measurement(models[Stage.ARTIFACT], spec, where=where, preprocessing_in_graph=raw))
    return rows, _int8_notes(target, medians)


def _int8_notes(target: Target, medians: Mapping[Stage, float]) -> list[str]:
    """Says so where int8 does not pay on the machine that is both builder and target."""
    fp32, int8 = medians[Stage.COMPRESSED], medians[Stage.ARTIFACT]
    if target.family != "host" or not target.quantization.scheme.is_int8 or int8 <= fp32:
        return []
    note = (
        f"int8 is slower than FP32 here ({int8:.3g} ms against {fp32:.3g} ms): quantising and dequantising costs more "
        "than these small layers save; quantize.scheme = 'float32' ships the faster graph"
    )
    return [note]
