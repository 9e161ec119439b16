"""Stage `package`: model, manifest, golden images, report and page in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.digest import digest_file, digest_value
from edgec.core.measurement import Measurement, Stage
from edgec.core.target import without_edgec
from edgec.core.versions import tool_versions
from edgec.evaluate.broken import BROKEN, encode_broken, find_broken
from edgec.evaluate.gates import check_gates
from edgec.evaluate.loss import Loss, loss_text
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import (
    CalibrationFacts,
    DataFacts,
    Effect,
    LatencyCurve,
    LayerSensitivity,
    LineageStep,
    OperatorLatency,
    Report,
    TensorRTCheck,
    encode_report,
)
from edgec.evaluate.teacher import TeacherCheck
from edgec.package import (
    SBOM,
    BuildPlan,
    CheckEntry,
    Description,
    FileEntry,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    StageEntry,
    TargetEntry,
    UnknownEntry,
    bill_of_materials,
    golden_bytes,
    pack_bundle,
)
from edgec.pipeline.check import PREDICTIONS, REPORT
from edgec.pipeline.embedded import is_embedded
from edgec.pipeline.measure import LOGITS
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import FP32, MODEL
from edgec.pipeline.store import Output
from edgec.report.page import render_report
from edgec.report.sizes import size_parts

__all__ = ["package"]

GOLDEN = 16
"""Images that a device must reproduce."""


def package(sources: Sources, made: Sequence[Output], folder: Path) -> Mapping[str, Any]:
    """Writes the bundle below `folder`.

    Args:
        sources: Golden images come from the test set.
        made: The outputs of all stages before, in order; `quantize` holds the model, `evaluate` the numbers.
        folder: Gets `bundle/`.
    """
    by_stage = {output.recipe.stage: output for output in made}
    report = _report(sources, by_stage)
    logits = _logits(by_stage["evaluate"].folder / LOGITS)
    predictions = Predictions.of(sources.test.digests, sources.test.labels, logits, sources.labels)
    broken = find_broken(
        sources.test,
        logits,
        classes=sources.labels,
        train_counts=report.train_counts or (),
        pictures=sources.plan.config.report.images,
    )
    gates = report.gates and check_gates(report, report.gates, drops=predictions.against_teacher())
    model = by_stage["quantize"].folder / MODEL
    pixels = sources.test.evenly(GOLDEN).decoded()
    golden = Golden(inputs=pixels, logits=sources.session(model).logits(pixels))
    description = _description(sources, by_stage)
    entry = FileEntry(sha256=digest_file(model), bytes=model.stat().st_size)
    pack_bundle(
        description=description,
        files={
            MODEL: model,
            "golden.npz": golden_bytes(golden),
            REPORT: encode_report(report),
            PREDICTIONS: predictions.to_bytes(),
            BROKEN: encode_broken(broken),
            "report.html": render_report(report, gates=gates, broken=broken).encode(),
            SBOM: bill_of_materials(description, entry, report.measurements),
            "calibration.json": (json.dumps(dict(by_stage["calibrate"].facts), indent=2) + "\n").encode(),
        },
        output=folder / "bundle",
    )
    return {}


def _logits(path: Path) -> dict[Stage, np.ndarray]:
    """Of the stages whose logits the evaluation left."""
    with np.load(path, allow_pickle=False) as arrays:
        return {Stage(name): arrays[name] for name in arrays.files if name != "labels"}


def _teacher_size(sources: Sources) -> list[Measurement]:
    """Bytes of the teacher's numbers, where it is a module: it has no file of the kind that ships."""
    if sources.plan.model.is_onnx:
        return []
    tensors = sources.classifier.module.state_dict().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    row = {"name": "size_bytes", "value": size, "unit": "bytes", "n": 1, "where": "weights alone"}
    return [Measurement(stage=Stage.TEACHER, **row)]


def _report(sources: Sources, made: Mapping[str, Output]) -> Report:
    plan, measured, data = sources.plan, made["evaluate"].facts, made["data"].facts
    quantized, loss = made["quantize"].facts, measured["loss"] and Loss.model_validate(measured["loss"])
    teacher = TeacherCheck.model_validate(made["teacher"].facts)
    return Report(
        title=plan.config.name,
        target=plan.target.name,
        target_title=plan.target.title,
        labels=sources.labels,
        train_counts=tuple(data["splits"][0]["counts"]),
        measurements=(*measured["measurements"], *_teacher_size(sources)),
        rounded_to=measured["rounded_to"],
        confusion=measured["confusion"],
        operators=tuple(OperatorLatency(**operator) for operator in measured["operators"]),
        curves=tuple(LatencyCurve.model_validate(curve) for curve in measured["curves"]),
        sizes=size_parts(made["quantize"].folder / MODEL, made["export"].folder / FP32),
        sensitivity=tuple(LayerSensitivity.model_validate(row) for row in quantized.get("sensitivity", ())),
        effects=tuple(Effect.model_validate(row) for row in quantized.get("effects", ())),
        tensorrt=TensorRTCheck.model_validate(made["prove"].facts) if "prove" in made else None,
        loss=loss,
        teacher=teacher,
        data=DataFacts.model_validate({name: data[name] for name in DataFacts.model_fields}),
        calibration=_calibration(made["calibrate"].facts, sources.labels),
        lineage=tuple(
            LineageStep(name=name, config=digest_value(output.recipe.settings), facts=_told(output))
            for name, output in made.items()
        ),
        gates=None if plan.config.gates.empty else plan.config.gates,
        notes=(
            *([teacher.warning] if teacher.warning else []),
            *data["notes"],
            *_notes(sources),
            *_restyled_or_left_out(made),
            *measured["notes"],
            *_not_proven(made),
            *([loss_text(loss)] if loss else []),
        ),
        tools=tool_versions(),
    )


def _calibration(facts: Mapping[str, Any], labels: Sequence[str]) -> CalibrationFacts:
    rest = {name: facts[name] for name in ("recipe", "observer", "images", "digest")}
    return CalibrationFacts(
        few_counts=tuple(facts["few_per_class"][label] for label in labels),
        ood_counts=tuple(facts["ood_per_class"][label] for label in labels),
        facts=rest,
    )


def _notes(sources: Sources) -> list[str]:
    from edgec.data import untested

    plan = sources.plan
    notes = [text for text in (untested(sources.test),) if text is not None]
    if plan.model.is_onnx:
        notes.append("the model was given as ONNX: a finished graph cannot be pruned, so compression was skipped")
    if (without := without_edgec(plan.target)) is not None:
        notes.append(without)
    if sources.stand_in is not None:
        notes.append(sources.stand_in)
    if plan.data.embedded:
        teacher = " and the teacher that ships with edgec" if is_embedded(plan.model) else ""
        notes.append(f"embedded default: scikit-learn's handwritten digits{teacher}")
    if plan.data.ood is None:
        notes.append(
            "no OOD images were given: patches of scikit-learn's photographs and drawn images took their place"
        )
    if plan.data.calibration is None:
        notes.append("no calibration images were given: the ranges come from the training samples and OOD images")
    return notes


def _restyled_or_left_out(made: Mapping[str, Output]) -> list[str]:
    """What became of OOD images that were too far to help as they were."""
    facts = made["compress"].facts.get("oefsmc", {}) if "compress" in made else {}
    gaps = [facts[name] for name in ("ood_gap", "ood_gap_restyled") if name in facts]
    if not facts.get("ood_used", True):
        gap = f"to the teacher they are {gaps[-1]:.2f} nat from the few samples"
        return [f"recovery left the OOD images out: {gap}, and far ones may do harm (compress.oefsmc.ood)"]
    if len(gaps) < 2:
        return []
    moved = f"brought them from {gaps[0]:.2f} to {gaps[1]:.2f} nat from the few samples (compress.oefsmc.style)"
    return [f"the few samples' colours, spectrum and levels, which recovery gave to the OOD images, {moved}"]


def _not_proven(made: Mapping[str, Output]) -> list[str]:
    """That the graph was not proven, where it is for TensorRT."""
    check = made["prove"].facts if "prove" in made else {"proven": True}
    return [] if check["proven"] else [f"TensorRT: {check['note']}"]


def _told(output: Output) -> dict[str, Any]:
    """What the lineage says of a stage; what has a place of its own in the report is not told twice."""
    if output.recipe.stage in ("data", "teacher", "evaluate", "calibrate", "prove"):
        return {}
    return {name: fact for name, fact in output.facts.items() if name not in ("sensitivity", "effects")}


def _description(sources: Sources, made: Mapping[str, Output]) -> Description:
    plan, data = sources.plan, made["data"].facts
    target, session = plan.target, sources.session(made["quantize"].folder / MODEL)
    splits: list[Any] = [{key: split[key] for key in ("name", "n", "counts", "digest")} for split in data["splits"]]
    return Description(
        name=plan.config.name,
        release=plan.config.package.release,
        target=TargetEntry(name=target.name, title=target.title, digest=digest_value(target)),
        labels=sources.labels,
        input=plan.model.input,
        preprocessing_in_graph=plan.config.export.preprocess_in_graph,
        output=OutputEntry(name=session.output),
        model=ModelEntry(scheme=target.quantization.scheme, opset=made["quantize"].facts["opset"]),
        runtime=RuntimeEntry(
            engine=target.runtime.engine,
            providers=target.runtime.providers,
            device=target.runtime.device,
            threads=target.runtime.threads,
            recorded_by=sources.engine,
            build_plan=_build_plan(sources, session.input, made["prove"]) if "prove" in made else None,
        ),
        unknown=_unknown(sources, made["evaluate"].facts),
        lineage=tuple(_stage_entry(output) for name, output in made.items() if name not in ("evaluate", "prove")),
        tools=tool_versions(),
        data={"splits": splits, "overlaps": data["overlaps"], "purity": data["purity"], "left_out": data["left_out"]},
        calibration={key: value for key, value in made["calibrate"].facts.items() if key != "sources"},
    )


def _unknown(sources: Sources, measured: Mapping[str, Any]) -> UnknownEntry:
    shares = {(row["name"], row["label"]): row["value"] for row in measured["measurements"]}
    return UnknownEntry(
        below=measured["unknown_below"],
        most=sources.plan.config.evaluate.unknown,
        classes={label: shares["unknown_rate", label] for label in sources.labels if ("unknown_rate", label) in shares},
        foreign=shares["ood_unknown_rate", None],
    )


def _stage_entry(output: Output) -> StageEntry:
    recipe = output.recipe
    return StageEntry(
        name=recipe.stage,
        key=recipe.key,
        config=digest_value(recipe.settings),
        inputs={name: digest_value(source) for name, source in recipe.sources.items()},
        facts={"files": dict(output.files)},
    )


def _build_plan(sources: Sources, name: str, proven: Output) -> BuildPlan:
    """Precision stands in the graph: TensorRT 10 takes it from there alone, 8 wants to be told that it may."""
    shape = "x".join(map(str, sources.plan.model.input.shape))
    modern = not (sources.plan.target.runtime.version or "").startswith("8.")
    return BuildPlan(
        tool="trtexec",
        arguments=(
            f"--onnx={MODEL}",
            "--saveEngine=../model.engine",
            *(("--stronglyTyped",) if modern else ("--int8", "--fp16")),
            *(f"--{which}Shapes={name}:{batch}x{shape}" for which, batch in (("min", 1), ("opt", 1), ("max", 8))),
        ),
        check=CheckEntry(**{name: proven.facts[name] for name in ("tool", "proven", "note")}),
    )
