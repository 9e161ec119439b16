"""Stage `package`: model, manifest, golden images, report and page in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, JsonValue

from edgec.core.digest import digest_file, digest_value
from edgec.core.facts import DataFacts
from edgec.core.frozen import Frozen
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.core.target import without_edgec
from edgec.core.versions import tool_versions
from edgec.evaluate.broken import BROKEN, encode_broken, find_broken
from edgec.evaluate.gates import check_gates
from edgec.evaluate.loss import loss_text
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import LineageStep, Report, encode_report
from edgec.package import (
    SBOM,
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
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, compress, data, deck, evaluate, export, prove, quantize, teacher
from edgec.pipeline.stages.evaluate import LOGITS
from edgec.pipeline.stages.export import FP32
from edgec.pipeline.stages.quantize import MODEL
from edgec.pipeline.store import Output, StageKey
from edgec.pipeline.trtexec import build_plan
from edgec.render.sizes import size_parts

__all__ = ["Facts", "Made", "key", "run"]

GOLDEN = 16
"""Images that a device must reproduce."""
COARSE = 8
"""Patches of one colour along each side of a drawn golden image."""

READS = (
    *MODEL_SETTINGS,
    *(f"config.{name}" for name in ("name", "gates", "package", "report", "evaluate.unknown", "seed")),
    *("config.export.preprocess_in_graph", "data.embedded", "data.validation", "target"),
)


class Facts(Frozen):
    """All that there is to know is in the bundle."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the stages before made; None of a stage that the build does not have."""

    data: Output[data.Facts]
    teacher: Output[teacher.Facts]
    baseline: Output[compress.Facts] | None
    few: Output[compress.Facts] | None
    compress: Output[compress.Facts] | None
    export: Output[export.Facts]
    calibrate: Output[calibrate.Facts]
    quantize: Output[quantize.Facts]
    deck: Output[deck.Facts] | None
    prove: Output[prove.Facts] | None
    evaluate: Output[evaluate.Facts]

    @property
    def model(self) -> Path:
        """The file that ships."""
        return (self.deck or self.quantize).folder / MODEL

    @property
    def fp32(self) -> Path:
        """Its graph before quantisation."""
        return (self.deck or self.export).folder / FP32

    @property
    def outputs(self) -> tuple[Output[BaseModel], ...]:
        """All that there are, in order."""
        return tuple(output for output in vars(self).values() if output is not None)


def key(plan: Plan) -> StageKey:
    """The bundle."""
    before = (teacher.key(plan), quantize.key(plan), prove.key(plan), calibrate.key(plan), evaluate.key(plan))
    return plan.key("package", READS, opens=("model", "test", "calibration", "ood"), after=before)


def run(sources: Sources, folder: Path, *, made: Made) -> Facts:
    """Writes the bundle below `folder`.

    Args:
        sources: Golden images come from the test set.
        folder: Gets `bundle/`.
        made: What the stages before made; `quantize` holds the model, `evaluate` the numbers.
    """
    from edgec.data import name_file
    from edgec.render.page import render_report

    report = _report(sources, made)
    logits = _logits(made.evaluate.folder / LOGITS)
    predictions = Predictions.of(sources.test.digests, sources.test.labels, logits, sources.labels)
    broken = find_broken(
        sources.test,
        logits,
        classes=sources.labels,
        train_counts=report.train_counts or (),
        names=partial(name_file, sources.test),
        pictures=sources.plan.config.report.images,
    )
    gates = report.gates and check_gates(report, report.gates, drops=predictions.against_teacher())
    model = made.model
    pixels = _golden_pixels(sources)
    golden = Golden(inputs=pixels, logits=sources.session(model).logits(pixels))
    description = _description(sources, made)
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
            "calibration.json": (json.dumps(made.calibrate.told, indent=2) + "\n").encode(),
        },
        output=folder / "bundle",
    )
    return Facts()


def _golden_pixels(sources: Sources) -> np.ndarray:
    """Test images; where these must not travel, patches of random colours, from the seed alone."""
    if sources.plan.config.report.images:
        return sources.test.evenly(GOLDEN).decoded()
    spec, generator = sources.plan.model.input, np.random.default_rng(sources.plan.config.seed)
    coarse = generator.integers(0, 256, (GOLDEN, COARSE, COARSE, spec.channels), dtype=np.uint8)
    rows, columns = (np.arange(size) * COARSE // size for size in (spec.height, spec.width))
    return coarse[:, rows][:, :, columns]


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


def _report(sources: Sources, made: Made) -> Report:
    plan, measured, images, checked = sources.plan, made.evaluate.facts, made.data.facts, made.teacher.facts
    return Report(
        title=plan.config.name,
        target=plan.target.name,
        target_title=plan.target.title,
        labels=sources.labels,
        input=plan.model.input,
        train_counts=images.data.splits[0].counts,
        measurements=(*measured.measurements, *_teacher_size(sources)),
        rounded_to=measured.rounded_to,
        confusion=measured.confusion,
        reliability=measured.reliability,
        operators=measured.operators,
        curves=measured.curves,
        sizes=size_parts(made.model, made.fp32),
        sensitivity=made.quantize.facts.sensitivity,
        effects=made.quantize.facts.effects,
        tensorrt=made.prove and made.prove.facts,
        loss=measured.loss,
        teacher=checked,
        data=images.data,
        calibration=made.calibrate.facts,
        lineage=tuple(
            LineageStep(name=output.key.stage, config=digest_value(output.key.settings), facts=_told(output))
            for output in made.outputs
        ),
        gates=None if plan.config.gates.empty else plan.config.gates,
        notes=(
            *([checked.warning] if checked.warning else []),
            *(each.told for each in checked.further or ()),
            *images.notes,
            *_notes(sources, made),
            *_restyled_or_left_out(made),
            *([made.deck.facts.summary] if made.deck else []),
            *_within_latency(made, measured.measurements),
            *measured.notes,
            *_not_proven(made),
            *([loss_text(measured.loss)] if measured.loss else []),
        ),
        tools=tool_versions(),
    )


def _notes(sources: Sources, made: Made) -> list[str]:
    from edgec.data import untested

    plan, prior = sources.plan, made.export.facts.prior
    notes = [text for text in (untested(sources.test), prior and prior.told) if text is not None]
    if not plan.model.is_onnx:
        notes += sources.classifier.history[0].facts.get("notes", [])
    if plan.model.is_onnx:
        notes.append("the model was given as ONNX: a finished graph cannot be pruned, so compression was skipped")
        notes += _of_the_file(sources, made.export.facts)
    if (without := without_edgec(plan.target)) is not None:
        notes.append(without)
    if sources.stand_in is not None:
        notes.append(sources.stand_in)
    if (candidates := plan.config.report.chosen_from) is not None:
        notes.append(
            f"edgec tune compared {candidates} candidates for this build by their agreement with the teacher on "
            f"{'validation images' if plan.data.validation else 'changed few samples'}: test images had no part in it"
        )
    if plan.data.embedded:
        shipped = " and the teacher that ships with edgec" if is_embedded(plan.model) else ""
        notes.append(f"embedded default: scikit-learn's handwritten digits{shipped}")
    if plan.data.ood is None:
        notes.append(
            "no OOD images were given: patches of scikit-learn's photographs and drawn images took their place"
        )
    if plan.data.calibration is None:
        notes.append("no calibration images were given: the ranges come from the training samples and OOD images")
    return notes


def _of_the_file(sources: Sources, facts: export.Facts) -> list[str]:
    """What was done to a graph that was given, and how far it agrees with the file."""
    same = f"same class as the file on {facts.same_class:.1%} of {facts.images} images"
    notes = [f"the graph as given: {'; '.join((*facts.done, same))}"]
    if sources.plan.as_given:
        scheme = sources.plan.target.quantization.scheme
        what = "is quantised already" if scheme.is_int8 else "is no net of matrix products"
        notes.append(f"the model {what}: it ships with the numbers that it has, and [quantize] has no part in it")
    return notes


def _restyled_or_left_out(made: Made) -> list[str]:
    """What became of OOD images that were too far to help as they were."""
    if made.compress is None:
        return []
    ood = made.compress.facts.ood
    if not ood.used:
        nearest = ood.gap if ood.gap_restyled is None else ood.gap_restyled
        gap = f"to the teacher they are {nearest:.2f} nat from the few samples"
        return [f"recovery left the OOD images out: {gap}, and far ones may do harm (compress.oefsmc.ood)"]
    if ood.gap_restyled is None:
        return []
    gap = f"from {ood.gap:.2f} to {ood.gap_restyled:.2f} nat (compress.oefsmc.style)"
    return [f"recovery gave the OOD images the few samples' colours, spectrum and levels: the gap to them fell {gap}"]


def _within_latency(made: Made, measurements: Iterable[Measurement]) -> list[str]:
    """What became of a budget of latency, of the student and of the file that ships."""
    if made.compress is None or made.compress.facts.latency is None:
        return []
    found = made.compress.facts.latency
    shipped = next(
        (
            row.value
            for row in measurements
            if row.stage is Stage.ARTIFACT
            and row.name == "latency_ms_p50"
            and row.machine is Machine.TARGET
            and row.kind is Kind.PREDICTED
        ),
        None,
    )
    text = (
        f"latency budget: {found.most_ms:.3g} ms of the teacher's {found.teacher_ms:.3g} ms may stay, as predicted for "
        f"one image; the pruned net takes {found.student_ms:.3g} ms"
    )
    if shipped is not None and shipped > found.most_ms * (1 + 1e-6):
        text += f", and the file that ships {shipped:.3g} ms: layers that stay in floating point were not foreseen"
    return [text]


def _not_proven(made: Made) -> list[str]:
    """That the graph was not proven, where it is for TensorRT."""
    return [] if made.prove is None or made.prove.facts.proven else [f"TensorRT: {made.prove.facts.note}"]


def _told(output: Output[BaseModel]) -> Mapping[str, JsonValue]:
    """What the lineage says of a stage; what has a place of its own in the report is not told twice."""
    facts = output.facts
    if isinstance(facts, compress.Facts):
        return facts.steps
    if isinstance(facts, (export.Facts, deck.Facts)):
        return output.told
    if isinstance(facts, quantize.Facts):
        return {name: fact for name, fact in output.told.items() if name not in ("sensitivity", "effects")}
    return {}


def _description(sources: Sources, made: Made) -> Description:
    plan, target, session = sources.plan, sources.plan.target, sources.session(made.model)
    return Description(
        name=plan.config.name,
        release=plan.config.package.release,
        expires=plan.config.package.expires,
        target=TargetEntry(name=target.name, title=target.title, digest=digest_value(target)),
        labels=sources.labels,
        input=plan.model.input,
        preprocessing_in_graph=sources.raw,
        output=OutputEntry(name=session.output),
        model=ModelEntry(
            scheme=target.quantization.scheme,
            opset=made.quantize.facts.opset,
            members=tuple(member.robust for member in made.deck.facts.members) if made.deck else (),
        ),
        runtime=RuntimeEntry(
            engine=target.runtime.engine,
            providers=target.runtime.providers,
            device=target.runtime.device,
            threads=target.runtime.threads,
            recorded_by=sources.engine,
            build_plan=build_plan(session, target, made.prove.facts) if made.prove else None,
        ),
        unknown=_unknown(sources, made.evaluate.facts),
        lineage=tuple(_stage_entry(each) for each in made.outputs if each not in (made.evaluate, made.prove)),
        tools=tool_versions(),
        data=_data(made.data.facts.data),
        calibration=made.calibrate.facts.model_dump(mode="json", exclude={"sources"}),
    )


def _data(facts: DataFacts) -> dict[str, JsonValue]:
    """What the manifest says of the images; where they came from is nobody's business on a device."""
    fields = {"splits": {"__all__": {"name", "n", "counts", "digest"}}, "overlaps": True, "purity": True}
    return facts.model_dump(mode="json", include={**fields, "left_out": True})


def _unknown(sources: Sources, measured: evaluate.Facts) -> UnknownEntry:
    shares = {(row.name, row.label): row.value for row in measured.measurements}
    return UnknownEntry(
        below=measured.unknown_below,
        most=sources.plan.config.evaluate.unknown,
        classes={label: shares["unknown_rate", label] for label in sources.labels if ("unknown_rate", label) in shares},
        foreign=shares["ood_unknown_rate", None],
    )


def _stage_entry(output: Output[BaseModel]) -> StageEntry:
    key = output.key
    return StageEntry(
        name=key.stage,
        key=key.key,
        config=digest_value(key.settings),
        inputs={name: digest_value(source) for name, source in key.sources.items()},
        facts={"files": dict(output.files), **_done(output.facts)},
    )


def _done(facts: BaseModel) -> dict[str, JsonValue]:
    """What was done to a graph that was given, and what was estimated of how its teacher was trained."""
    if not isinstance(facts, export.Facts):
        return {}
    done = {"done", "same_class"} if facts.source == "as given" else set[str]()
    return facts.model_dump(mode="json", include=done | ({"prior"} if facts.prior is not None else set[str]()))
