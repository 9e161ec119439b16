"""A small classifier as ONNX and bundles of it, for the tests of what packs, runs and ships bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.inputs import InputSpec
from edgec.core.measurement import Stage
from edgec.core.target import Scheme
from edgec.evaluate.predictions import Predictions
from edgec.package import (
    Description,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    StageEntry,
    TargetEntry,
    golden_bytes,
    pack_bundle,
)

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
