"""Reports as builds make them, from invented scores: ten classes with everything, a hundred with less."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.accuracy import accuracy_measurements, agreement_measurement, confusion_counts
from edgec.evaluate.paired import drop_measurements
from edgec.evaluate.report import (
    CalibrationFacts,
    DataFacts,
    Effect,
    LayerSensitivity,
    LineageStep,
    OperatorLatency,
    Overlap,
    Report,
    Split,
)

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = (21, 12, 7, 4, 2, 1, 1, 1, 1, 0)
WHERE = "onnxruntime 1.31 CPUExecutionProvider"


def invented_scores(labels: np.ndarray, classes: int, accuracy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logits that are right with a given probability per class, and else prefer neighbouring classes."""
    logits = rng.normal(0, 1, (len(labels), classes)).astype(np.float32)
    wrong = (labels + rng.geometric(0.5, len(labels))) % classes
    right = rng.random(len(labels)) < accuracy[labels]
    logits[np.arange(len(labels)), np.where(right, labels, wrong)] += 9
    return logits


def _scored(labels: tuple[str, ...], counts: tuple[int, ...], per_class: int) -> dict[str, object]:
    rng = np.random.default_rng(7)
    size = len(labels)
    truth = np.repeat(np.arange(size), per_class)
    rank = np.linspace(0, 1, size)
    accuracy = {
        Stage.TEACHER: 0.94 - 0.06 * rng.random(size),
        Stage.BASELINE: 0.9 - 0.55 * rank,
        Stage.COMPRESSED: 0.9 - 0.14 * rank,
        Stage.ARTIFACT: 0.895 - 0.15 * rank,
    }
    logits = {stage: invented_scores(truth, size, share, rng) for stage, share in accuracy.items()}
    teacher = logits[Stage.TEACHER]
    rows: list[Measurement] = []
    for stage, scores in logits.items():
        rows += accuracy_measurements(scores, truth, labels, stage=stage, where=WHERE, train_counts=np.array(counts))
        if stage is not Stage.TEACHER:
            rows += drop_measurements(scores, teacher, truth, labels, stage=stage, where=WHERE)
            rows.append(agreement_measurement(scores, teacher, stage=stage, where=WHERE))
    confusion = {
        stage: tuple(map(tuple, confusion_counts(scores, truth, labels).tolist())) for stage, scores in logits.items()
    }
    return {"measurements": rows, "confusion": confusion}


def _row(name: str, value: float, unit: str, **more: object) -> Measurement:
    return Measurement(stage=Stage.ARTIFACT, name=name, value=value, unit=unit, **{"n": 1, "where": "here"} | more)


@pytest.fixture(scope="session")
def ten_classes() -> Report:
    """A whole report: predicted and measured latency, calibration, data, lineage, notes."""
    scored = _scored(CIFAR10, COUNTS, 100)
    host = {"where": "AMD EPYC 7B13, 2 cores, x86_64", "n": 400, "machine": Machine.OTHER}
    title = "Jetson Orin Nano 8 GB"
    rows = [
        *scored["measurements"],
        _row("size_bytes", 106_412, "bytes", where="on disk"),
        _row("size_bytes", 1_092_311, "bytes", where="on disk").model_copy(update={"stage": Stage.TEACHER}),
        _row("peak_memory_mb", 71.3, "MB", where=host["where"], machine=Machine.OTHER),
        _row("latency_ms_p50", 0.4127, "ms", n=0, kind=Kind.PREDICTED, where=title, machine=Machine.TARGET),
        _row("latency_ms_p50", 0.3391, "ms", low=0.3372, high=0.3411, **host),
        _row("latency_ms_p90", 0.3604, "ms", low=0.3551, high=0.3702, **host),
        _row("latency_ms_p99", 0.5121, "ms", low=0.4402, high=0.8116, **host),
    ]
    return Report(
        title="ResNet-20 on CIFAR-10, half of its FLOPs, int8",
        target="jetson-orin-nano-8gb",
        target_title=title,
        labels=CIFAR10,
        train_counts=COUNTS,
        measurements=tuple(rows),
        confusion=scored["confusion"],
        operators=tuple(
            OperatorLatency(
                name=f"/layer{1 + i // 6}/{i % 6 // 2}/conv{1 + i % 2}/Conv", op="Conv", ms=0.0301 - 0.0011 * i
            )
            for i in range(18)
        ),
        data=DataFacts(
            splits=(
                Split(name="train", n=50, counts=COUNTS, digest="1f" * 32, source="cifar10_train10k.webp, 50 drawn"),
                Split(name="ood", n=500, digest="8c" * 32, source="cifar100_ood2500.webp, 500 drawn"),
                Split(name="calibration", n=300, counts=(30,) * 10, digest="a2" * 32, source="train and ood"),
                Split(name="test", n=1000, counts=(100,) * 10, digest="e9" * 32, source="cifar10_test.webp"),
            ),
            overlaps=(
                Overlap(first="train", second="test", shared=0),
                Overlap(first="ood", second="test", shared=0),
                Overlap(first="ood", second="train", shared=0),
            ),
            purity={"equal_to_a_test_image": 0, "near_a_training_image": 3, "near_a_test_image": 12},
        ),
        calibration=CalibrationFacts(
            few_counts=COUNTS,
            ood_counts=tuple(30 - count for count in COUNTS),
            facts={"recipe": "balanced", "observer": "entropy", "scheme": "s8s8", "per_channel": True, "images": 300},
        ),
        lineage=(
            LineageStep(
                name="load", config="0a1b" * 16, facts={"architecture": "resnet20", "parameters": 269722}, seconds=0.2
            ),
            LineageStep(
                name="compress",
                config="77aa" * 16,
                facts={
                    "method": "oefsmc",
                    "base": "mir",
                    "keep_flops": 0.5,
                    "kept_flops": 0.4983,
                    "steps": [600, 200],
                    "stopped": "guard kept the distilled model",
                },
                seconds=148.31,
            ),
            LineageStep(name="quantize", config="c0de" * 16, facts={"scheme": "s8s8", "tensors": 41}),
            LineageStep(
                name="export", config="beef" * 16, facts={"opset": 17, "same_class_as_torch": 1.0}, seconds=3.9
            ),
        ),
        notes=(
            "No Jetson was at hand: its latency is predicted from the profile, not measured.",
            "Class 'truck' has no training image; its labels in the out-of-distribution set were assigned by eq. 4.",
        ),
        tools={"edgec": "0.1.0", "python": "3.11.2", "onnxruntime": "1.31.0", "torch": "2.15.0"},
    )


def with_sensitivity(report: Report, layers: int = 5) -> Report:
    """The report with invented divergences by layer and a refinement; the second layer stays in float."""
    values = np.random.default_rng(3).exponential(0.01, (layers, len(report.labels)))
    rows = tuple(
        LayerSensitivity(
            layer=f"conv<{i}>",
            operator="Conv",
            kept="float" if i == 1 else "int8",
            divergence=dict(zip(report.labels, row.tolist(), strict=True)),
        )
        for i, row in enumerate(values)
    )
    effect = Effect(
        what="rounding by <gradient>",
        worst_class_divergence_before=0.0312,
        worst_class_divergence_after=0.0191,
        seconds=2,
    )
    return Report.model_validate(report.model_dump() | {"sensitivity": rows, "effects": (effect,)})


@pytest.fixture(scope="session")
def sensitive() -> Callable[..., Report]:
    """Adds what quantisation found out about layers to a report."""
    return with_sensitivity


@pytest.fixture(scope="session")
def ten_classes_by_layer(ten_classes: Report) -> Report:
    return with_sensitivity(ten_classes, layers=21)


@pytest.fixture(scope="session")
def hundred_classes_by_layer(hundred_classes: Report) -> Report:
    return with_sensitivity(hundred_classes)


@pytest.fixture(scope="session")
def hundred_classes() -> Report:
    """A report of accuracies alone, with more classes than have room for numbers."""
    labels = tuple(f"species {i:02d}" for i in range(100))
    counts = tuple(int(50 * 0.01 ** (i / 99)) for i in range(100))
    return Report(
        title="A hundred species",
        target="rpi5",
        target_title="Raspberry Pi 5",
        labels=labels,
        train_counts=counts,
        **_scored(labels, counts, 40),
        calibration=CalibrationFacts(few_counts=counts, ood_counts=tuple(50 - count for count in counts)),
    )
