"""`report.json` as scripts and later versions read it: changing a byte here is changing the format."""

from __future__ import annotations

from pathlib import Path

from edgec.core.facts import (
    CalibrationFacts,
    DataFacts,
    Effect,
    Finding,
    FloatOperator,
    LatencyCurve,
    LayerSensitivity,
    OperatorLatency,
    Overlap,
    SizePart,
    Split,
    TensorRTCheck,
)
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.loss import ClassLoss, Loss, Remedy
from edgec.evaluate.report import LineageStep, Report, encode_report, parse_report

GOLDEN = Path(__file__).with_name("report.json")


def row(name: str, value: float, label: str | None = None, **more: object) -> Measurement:
    fields = {"stage": Stage.ARTIFACT, "unit": "share", "n": 20, "where": "onnxruntime 1.31"} | more
    return Measurement(name=name, value=value, label=label, **fields)


REPORT = Report(
    title="Pets",
    target="board",
    target_title="A small board",
    labels=("cat", "dog", "Käfer"),
    train_counts=(12, 3, 1),
    measurements=(
        row("accuracy", 0.95, n=60, stage=Stage.TEACHER, low=0.863, high=0.983),
        row("accuracy", 0.9, n=60, low=0.798, high=0.953),
        row("accuracy", 1.0, "cat", low=0.839, high=1.0),
        row("accuracy", 0.9, "dog", low=0.699, high=0.972),
        row("accuracy", 0.8, "Käfer", low=0.584, high=0.919),
        row("worst_class_accuracy", 0.8, low=0.584, high=0.919),
        row("accuracy_drop", 0.05, n=60, low=-0.02, high=0.12),
        row("accuracy_drop", 0.0, "cat", low=-0.16, high=0.16),
        row("accuracy_drop", 0.05, "dog", low=-0.12, high=0.23),
        row("accuracy_drop", 0.1, "Käfer", low=-0.11, high=0.3),
        row("size_bytes", 20480, unit="bytes", n=1, where="on disk"),
        row(
            "latency_ms_p50",
            0.25,
            unit="ms",
            n=0,
            kind=Kind.PREDICTED,
            where="A small board",
            machine=Machine.TARGET,
        ),
    ),
    rounded_to="float16",
    confusion={Stage.ARTIFACT: ((20, 0, 0), (2, 18, 0), (1, 3, 16))},
    operators=(OperatorLatency(name="conv1", op="Conv", ms=0.2),),
    curves=(LatencyCurve(stage=Stage.ARTIFACT, where="here", n=400, quantiles_ms=(0.2, 0.25, 0.9)),),
    sizes=(
        SizePart(name="conv1", operator="Conv", bytes=4096, full_bytes=16384),
        SizePart(name="the graph itself: operators and names", bytes=512),
    ),
    sensitivity=(
        LayerSensitivity(layer="conv1", operator="Conv", kept="int8", divergence={"cat": 0.001, "Käfer": 0.02}),
        LayerSensitivity(layer="head", operator="Gemm", kept="float", divergence={"cat": 0.0, "Käfer": 0.3}),
    ),
    effects=(Effect(what="ranges", worst_class_divergence_before=0.3, worst_class_divergence_after=0.02, seconds=1.5),),
    tensorrt=TensorRTCheck(
        findings=(Finding(rule="residual", severity="warning", node="node 'add'", what="both", fix="round one"),),
        tool="tensorrt-rtx 1.7",
        proven=True,
        int8={"convolution": 1},
        floats=(FloatOperator(name="head", reason="kept"),),
        engine_bytes=4096,
        seconds=1.5,
        note="parsed and built",
    ),
    loss=Loss(
        scheme="s8s8",
        before=0.95,
        after=0.9,
        low=-0.01,
        high=0.12,
        proven=True,
        n=60,
        classes=(ClassLoss(label="Käfer", drop=0.2, n=20),),
        places=("'joined' (Concat) is coarse",),
        remedies=(
            Remedy(setting="quantize.equalize=true", failure="no"),
            Remedy(setting="quantize.float_type=1", changed=0.1),
        ),
        changed=0.3,
        judged=56,
    ),
    data=DataFacts(
        splits=(
            Split(name="train", n=16, counts=(12, 3, 1), digest="ab" * 32, source="photos/train"),
            Split(name="ood", n=40, digest="cd" * 32, source="photos/other"),
        ),
        overlaps=(Overlap(first="train", second="ood", shared=0),),
        purity={"exact": 1, "near": 2},
    ),
    calibration=CalibrationFacts(
        recipe="balanced",
        observer="entropy",
        ood_labels="eq4",
        images=36,
        digest="0a" * 32,
        sources=("photos/train", "photos/other"),
        few_per_class={"cat": 12, "dog": 3, "Käfer": 1},
        ood_per_class={"cat": 0, "dog": 9, "Käfer": 11},
        weight_per_class={"cat": 0.3, "dog": 0.3, "Käfer": 0.4},
    ),
    lineage=(LineageStep(name="load", config="ef" * 32, facts={"parameters": 1234}),),
    gates=Gates(min_accuracy=0.85, max_class_drop=0.1),
    notes=("No board was at hand.",),
    tools={"edgec": "0.1.0"},
)


def test_the_file_is_byte_for_byte_what_it_was() -> None:
    assert encode_report(REPORT).decode() == GOLDEN.read_text(encoding="utf-8")


def test_a_file_from_before_layers_were_told_is_read() -> None:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    start, end = (
        next(i for i, line in enumerate(lines) if line.startswith(f'  "{name}"')) for name in ("sensitivity", "data")
    )
    old = parse_report("\n".join((*lines[:start], *lines[end:])).encode())
    assert old == REPORT.model_copy(update={"sensitivity": (), "effects": (), "tensorrt": None, "loss": None})


def test_a_file_from_before_sizes_and_curves_were_told_is_read() -> None:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    start, end = (
        next(i for i, line in enumerate(lines) if line.startswith(f'  "{name}"')) for name in ("curves", "sensitivity")
    )
    old = parse_report("\n".join((*lines[:start], *lines[end:])).encode())
    assert old == REPORT.model_copy(update={"curves": (), "sizes": ()})


def test_the_file_of_this_schema_is_read_for_ever() -> None:
    assert parse_report(GOLDEN.read_bytes()) == REPORT
