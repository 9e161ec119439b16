"""int8 in onnxruntime and OpenVINO against FP32 in onnxruntime, on this machine; OpenVINO is the extra `openvino`.

    python benchmarks/engines.py [--only speed classes] [--threads 1] [--images 10000] [--quick]

Speed: torchvision's ResNet-18 at 224×224 with random weights, and CIFAR's ResNet-56 with real ones, batch 1, a few
milliseconds each in turn; the ratio is the median over neighbouring turns, with its 95 % interval. Each scheme is
calibrated and quantised as for a target that has it. Classes: ResNet-56 over the CIFAR-10 test images, by class
(first: python benchmarks/unpack_mosaics.py).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision

from edgec.bench.latency import Turns, measure_in_turns
from edgec.bench.payoff import compare_turns
from edgec.calibrate import calibration_set, load_recipe, observe_ranges
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.core.target import EngineName, load_target
from edgec.data import load_samples
from edgec.export.onnx import export_onnx
from edgec.models.config import ModelConfig
from edgec.models.load import load_classifier
from edgec.pipeline.config import read_config
from edgec.quantize import quantize_model
from edgec.runtime import Session, is_installed
from rows import Row, arguments, show

HERE = Path(__file__).parent
LARGE = InputSpec(height=224, width=224)
SCHEMES = {"u8s8": "intel-n100", "s8s8": "raspberry-pi-5"}
"""Schemes, each with a target that has it."""
FAILS = {("ResNet-56", "s8s8")}
"""OpenVINO 2026.4 does not load int8 with zero-points around the Slice and Pad of CIFAR's shortcuts."""
ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
BASE = "FP32, onnxruntime"
CALIBRATION = 100
TURNS = 200


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=("speed", "classes"), default=("speed", "classes"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, help="test images whose classes are compared; default 10000, quick 1000")
    given = parser.parse_args()
    engines: list[EngineName] = [name for name in ENGINES if is_installed(name)]
    if "openvino" not in engines:
        print("OpenVINO is not installed: pip install 'edgec[openvino]'", file=sys.stderr)
    turns, seconds, images = (20, 8, 1000) if given.quick else (TURNS, 60, 10_000)
    nets = {"ResNet-18": _resnet18} if "speed" in given.only else {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, load in {**nets, "ResNet-56": _resnet56}.items():
            classifier, calibration = load()
            models = _models(name, classifier, calibration, Path(folder))
            print(f"{name} is exported", file=sys.stderr)
            sessions = _sessions(models, classifier.input, engines, threads=given.threads)
            if "speed" in given.only:
                rows += _speeds(name, sessions, turns=turns, max_seconds=seconds)
            if "classes" in given.only and name == "ResNet-56":
                rows += _classes(name, sessions, _cifar("test").take(np.arange(given.images or images)))
    show(rows, as_json=given.json, output=given.output)


def _resnet18() -> tuple[Classifier, Samples]:
    """Random weights and noise: neither matters to the time."""
    torch.manual_seed(0)
    labels = tuple(map(str, range(1000)))
    classifier = Classifier(module=torchvision.models.resnet18(weights=None).eval(), input=LARGE, labels=labels)
    pixels = np.random.default_rng(0).integers(0, 256, (8, LARGE.height, LARGE.width, 3), dtype=np.uint8)
    names = tuple(map(str, range(len(pixels))))
    return classifier, Samples(
        pixels=pixels, digests=names, source="noise", labels=np.arange(len(pixels)), classes=labels
    )


def _resnet56() -> tuple[Classifier, Samples]:
    model = _config()
    return load_classifier(model, model.labels or ()), _cifar("train").take(np.arange(CALIBRATION))


def _config() -> ModelConfig:
    return read_config(HERE / "configs" / "cifar10-resnet56.toml", ()).model


def _cifar(split: Literal["train", "test"]) -> Samples:
    model = _config()
    path = HERE / "data" / f"cifar10_{split}.npz"
    return load_samples(path, model.input, classes=model.labels, split=split, progress=Silent())


def _models(net: str, classifier: Classifier, calibration: Samples, folder: Path) -> dict[str, Path]:
    """FP32 and every scheme that both engines load."""
    paths = {"FP32": folder / f"{net}.onnx"}
    export_onnx(classifier, paths["FP32"], opset=18)
    recipe = load_recipe("balanced")
    none = calibration.take(np.arange(0))
    chosen = calibration_set(calibration, none, none.labels, recipe, seed=0)
    feed = Session(paths["FP32"], classifier.input).feed
    for scheme, name in SCHEMES.items():
        if (net, scheme) in FAILS:
            continue
        target = load_target(name)
        paths[scheme] = folder / f"{net}-{scheme}.onnx"
        ranges = observe_ranges(paths["FP32"], chosen, recipe, target=target, feed=feed)
        quantize_model(paths["FP32"], ranges, target, output=paths[scheme])
    return paths


def _sessions(
    models: Mapping[str, Path], spec: InputSpec, engines: list[EngineName], *, threads: int
) -> dict[str, Session]:
    return {
        f"{kind}, {engine}": Session(path, spec, engine=engine, threads=threads)
        for kind, path in models.items()
        for engine in engines
    }


def _speeds(net: str, sessions: Mapping[str, Session], *, turns: int, max_seconds: float) -> list[Row]:
    shape = next(iter(sessions.values())).spec.shape
    tensor = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    runs = [lambda session=session: session.logits(tensor) for session in sessions.values()]
    taken = dict(zip(sessions, measure_in_turns(runs, min_turns=turns, max_seconds=max_seconds), strict=True))
    return [row for what, mine in taken.items() for row in _speed(f"{net}, {what}", mine, taken[BASE])]


def _speed(what: str, mine: Turns, base: Turns) -> list[Row]:
    p50, payoff = mine.latency.p50, compare_turns(base, mine)
    times = {"value": p50.value_ms, "n": mine.latency.runs, "low": p50.low_ms, "high": p50.high_ms}
    speed = {"value": payoff.speedup, "n": payoff.turns, "low": payoff.low, "high": payoff.high}
    faster = Row(what=f"{what}: speed", unit="times, median", against=BASE, ratio=payoff.speedup, **speed)
    return [Row(what=f"{what}: time", unit="ms, median", **times), *([faster] if mine is not base else [])]


def _classes(net: str, sessions: Mapping[str, Session], test: Samples) -> list[Row]:
    """Accuracy of the whole, and how far the engines are apart for the class where they differ most."""
    print(f"classifying {len(test)} images {len(sessions)} times", file=sys.stderr)
    logits = {
        name: np.concatenate([run.logits(batch) for batch in test.batches(256)]) for name, run in sessions.items()
    }
    rows = []
    for name, mine in logits.items():
        right = mine.argmax(1) == test.labels
        rows.append(Row(what=f"{net}, {name}: accuracy", value=float(right.mean()), unit="share", n=len(test)))
        kind = name.partition(",")[0]
        other = f"{kind}, onnxruntime"
        if name != other:
            apart = _by_class(logits[other], test) - _by_class(mine, test)
            same = float((logits[other].argmax(1) == mine.argmax(1)).mean())
            most, far = float(np.abs(apart).max()), float(np.abs(logits[other] - mine).max())
            figures = {"same class": (same, "share"), "classes' accuracies apart, most": (most, "share")}
            figures["logits apart, most"] = (far / float(np.abs(logits[other]).max()), "share of the largest")
            rows += [
                Row(what=f"{net}, {name}: {what}", value=value, unit=unit, n=len(test), against=other)
                for what, (value, unit) in figures.items()
            ]
    return rows


def _by_class(logits: np.ndarray, test: Samples) -> np.ndarray:
    right = logits.argmax(1) == test.labels
    return np.array([right[test.labels == label].mean() for label in np.unique(test.labels)])


if __name__ == "__main__":
    main()
