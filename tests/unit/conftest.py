"""A small classifier as ONNX, bundles of it, and invented reports, for the tests of what packs, runs and shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.facts import CalibrationFacts, DataFacts, Effect, LayerSensitivity, OperatorLatency, Overlap, Split
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.core.target import Scheme
from edgec.evaluate.accuracy import accuracy_measurements, agreement_measurement, confusion_counts, reliability_of
from edgec.evaluate.paired import drop_measurements
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import LineageStep, Report
from edgec.package import (
    Description,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    StageEntry,
    TargetEntry,
    golden_bytes,
    open_bundle,
    pack_bundle,
)
from edgec.package.family import write_family

REPORT = Path(__file__).parents[1] / "golden" / "report.json"
PETS = ("cat", "dog", "Käfer")
"""The classes of the golden report."""
LABELS = ("cat", "dog", "eel")
SPEC = InputSpec(height=4, width=5, channels=3)


class Linear:
    """The reference: mean over the pixels of each channel, then an affine map, in NumPy float64."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.weight = rng.normal(size=(3, 3)).astype(np.float32)
        self.bias = rng.normal(size=3).astype(np.float32)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """float64 [n, 3] for uint8 [n, 4, 5, 3]."""
        scaled = (pixels.astype(np.float64) / 255 - SPEC.mean) / SPEC.std
        return scaled.mean(axis=(1, 2)) @ self.weight.T + self.bias

    def onnx(self, *, batch: str | int = "batch", classes: str | int = 3, raw: bool = False) -> bytes:
        """The same as a graph; `raw` takes values 0 to 255 and normalises them inside."""
        constants = {"weight": self.weight, "bias": self.bias, "axes": np.array([2, 3])}
        nodes = [
            helper.make_node("ReduceMean", ["scaled", "axes"], ["means"], keepdims=0),
            helper.make_node("Gemm", ["means", "weight", "bias"], ["logits"], transB=1),
        ]
        if raw:
            std = np.array(SPEC.std, np.float32).reshape(1, 3, 1, 1)
            mean = np.array(SPEC.mean, np.float32).reshape(1, 3, 1, 1)
            constants |= {"scale": 1 / (255 * std), "shift": -mean / std}
            nodes.insert(0, helper.make_node("Add", ["product", "shift"], ["scaled"]))
            nodes.insert(0, helper.make_node("Mul", ["input", "scale"], ["product"]))
        else:
            nodes.insert(0, helper.make_node("Identity", ["input"], ["scaled"]))
        graph = helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 4, 5])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()


@pytest.fixture
def linear() -> Linear:
    return Linear()


@pytest.fixture
def spec() -> InputSpec:
    return SPEC


@pytest.fixture
def pixels() -> np.ndarray:
    """uint8 [6, 4, 5, 3]."""
    return np.random.default_rng(3).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)


@pytest.fixture
def description() -> Description:
    return Description(
        name="linear-host",
        edgec="0.1.0",
        target=TargetEntry(name="host", title="This machine", digest="a" * 64),
        labels=LABELS,
        input=SPEC,
        output=OutputEntry(name="logits"),
        model=ModelEntry(scheme=Scheme.FLOAT32, opset=18),
        runtime=RuntimeEntry(engine="onnxruntime", threads=1),
        lineage=(
            StageEntry(name="data", key="b" * 64, config="c" * 64, facts={"images": 6}),
            StageEntry(name="export", key="d" * 64, config="e" * 64, inputs={"data": "b" * 64}),
        ),
        tools={"python": "3.10.0", "edgec": "0.1.0"},
        data={"train": {"images": 6, "counts": [3, 2, 1]}},
        calibration={"recipe": "balanced", "images": 6},
    )


@pytest.fixture
def contents(linear: Linear, pixels: np.ndarray) -> dict[str, bytes]:
    """The files of a bundle, but for the manifest."""
    golden = Golden(inputs=pixels, logits=linear.logits(pixels).astype(np.float32))
    return {
        "model.onnx": linear.onnx(),
        "golden.npz": golden_bytes(golden),
        "report.json": b'{"schema": 1, "measurements": []}\n',
        "report.html": b"<!doctype html><title>report</title>\n",
        "calibration.json": b"{}\n",
    }


@pytest.fixture
def make_bundle(tmp_path: Path, description: Description, contents: dict[str, bytes]) -> Callable[..., Path]:
    """Packs a bundle: `files` replaces contents, other keywords replace fields of the description."""

    def make(name: str = "bundle", files: dict[str, bytes] | None = None, **fields: object) -> Path:
        described = description.model_copy(update=fields)
        return pack_bundle(description=described, files=contents | (files or {}), output=tmp_path / name)

    return make


@pytest.fixture
def make_family(make_bundle: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a family of small bundles, one for each target."""

    def make(*targets: str) -> Path:
        folder = tmp_path / "family"
        folder.mkdir()
        for target in targets:
            entry = TargetEntry(name=target, title=target, digest="0" * 64)
            shutil.move(make_bundle(f"member-{target}", target=entry), folder / target)
        bundles = {target: open_bundle(folder / target) for target in targets}
        write_family(folder, next(iter(bundles.values())).manifest.name, bundles)
        return folder

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


@pytest.fixture
def make_pets(make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """Packs it; `right` says how many images of each class the artifact gets right."""

    def make(name: str = "pets", *, right: Sequence[int] = (20, 18, 16), first: int = 0) -> Path:
        given = {Stage.TEACHER: (20, 19, 18), Stage.ARTIFACT: right}
        files = {"report.json": _report(right), "predictions.npz": _predictions(given, first=first).to_bytes()}
        return make_bundle(name, files=files)

    return make


def _report(right: Sequence[int]) -> bytes:
    """The golden report, with the artifact's accuracies and drops as they are asked for."""
    fields = json.loads(REPORT.read_bytes())
    shares = {None: sum(right) / 60, **{label: count / 20 for label, count in zip(PETS, right, strict=True)}}
    for row in fields["measurements"]:
        if (row["stage"], row["name"]) == ("artifact", "accuracy") and abs(row["value"] - shares[row["label"]]) > 1e-9:
            value = shares[row["label"]]
            row |= {"value": value, "low": max(value - 0.1, 0.0), "high": min(value + 0.1, 1.0)}
        if row["name"] == "worst_class_accuracy":
            row["value"] = min(right) / 20
        if row["name"] == "accuracy_drop":
            teacher = {None: 57 / 60, **{label: count / 20 for label, count in zip(PETS, (20, 19, 18), strict=True)}}
            row["value"] = teacher[row["label"]] - shares[row["label"]]
    return json.dumps(fields, ensure_ascii=False).encode()


def _predictions(right: Mapping[Stage, Sequence[int]], *, first: int) -> Predictions:
    """Twenty images of each class, of which the last ones are taken for the next class; numbered from `first`."""
    truth = np.repeat(np.arange(3), 20)
    place = np.tile(np.arange(20), 3)
    logits = {stage: np.eye(3)[(truth + (place >= np.array(counts)[truth])) % 3] for stage, counts in right.items()}
    return Predictions.of([f"{first + i:016x}" for i in range(60)], truth, logits, PETS)


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
    reliability = {stage: reliability_of(scores / 3, truth) for stage, scores in logits.items()}
    return {"measurements": rows, "confusion": confusion, "reliability": reliability}


def _calibrated(labels: Sequence[str], counts: Sequence[int], of_each: int) -> CalibrationFacts:
    """As many images of each class; what labelled ones leave, others fill."""
    few = dict(zip(labels, counts, strict=True))
    return CalibrationFacts(
        recipe="balanced",
        observer="entropy",
        ood_labels="eq4",
        images=of_each * len(few),
        digest="a2" * 32,
        sources=("train", "ood"),
        few_per_class=few,
        ood_per_class={label: of_each - count for label, count in few.items()},
        weight_per_class=dict.fromkeys(few, 1 / len(few)),
    )


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
        reliability=scored["reliability"],
        input=InputSpec(height=32, width=32),
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
        calibration=_calibrated(CIFAR10, COUNTS, 30),
        lineage=(
            LineageStep(name="load", config="0a1b" * 16, facts={"architecture": "resnet20", "parameters": 269722}),
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
            ),
            LineageStep(name="quantize", config="c0de" * 16, facts={"scheme": "s8s8", "tensors": 41}),
            LineageStep(name="export", config="beef" * 16, facts={"opset": 17, "same_class_as_torch": 1.0}),
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
        calibration=_calibrated(labels, counts, 50),
    )
