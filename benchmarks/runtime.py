"""The runtime against a bare onnxruntime session on the same prepared tensor, batch 1, and folders against one by one.

    python benchmarks/runtime.py [--only overhead folder] [--quick]

Overhead: CIFAR's ResNet-20 and torchvision's MobileNetV2 at 224×224, random weights, as bundles; a few milliseconds
each in turn; the ratio of the times is the median over neighbouring turns, with its 95 % interval. Folder: JPEG files,
500×375 pixels, by `predict_files` and one by one, in turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from edgec.bench.latency import measure_in_turns
from edgec.bench.payoff import compare_turns
from edgec.core.classifier import Classifier
from edgec.core.images import decode_image
from edgec.core.inputs import InputSpec
from edgec.core.target import Scheme, load_target
from edgec.evaluate.intervals import quantile_ranks
from edgec.export.onnx import export_onnx
from edgec.models.cifar_resnet import resnet20
from edgec.package import (
    Description,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    TargetEntry,
    golden_bytes,
    pack_bundle,
)
from edgec.runtime import Model, Session, load_model, predict_files
from nets import exported
from rows import Row, arguments, show

NETS = {"resnet20": InputSpec(height=32, width=32), "mobilenet_v2": InputSpec(height=224, width=224)}
CLASSES = {"resnet20": 10, "mobilenet_v2": 1000}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=("overhead", "folder"), default=("overhead", "folder"))
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for net in NETS:
            bundle = made_bundle(net, Path(folder))
            if "overhead" in given.only:
                rows += _overhead(net, bundle, turns=50 if given.quick else 200)
            if "folder" in given.only:
                images = _images(Path(folder) / "images", count=200 if given.quick else 2000)
                rows.append(_folder(net, load_model(bundle, threads=1), images, turns=3 if given.quick else 5))
    show(rows, as_json=given.json, output=given.output)


def made_bundle(net: str, folder: Path) -> Path:
    """A bundle of a net with random weights, for onnxruntime on this machine's CPU, in FP32."""
    spec, target = NETS[net], load_target("host")
    opset = target.runtime.opset
    path = folder / f"{net}.onnx"
    if net == "resnet20":
        torch.manual_seed(0)
        labels = tuple(map(str, range(CLASSES[net])))
        export_onnx(Classifier(module=resnet20(CLASSES[net]).eval(), input=spec, labels=labels), path, opset=opset)
    else:
        path = exported(net, target, folder)
    pixels = np.random.default_rng(0).integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)
    session = Session(path, spec)
    golden = Golden(inputs=pixels, logits=session.logits(pixels))
    description = Description(
        name=net,
        target=TargetEntry(name="host", title="This machine", digest="0" * 64),
        labels=tuple(map(str, range(CLASSES[net]))),
        input=spec,
        output=OutputEntry(name=session.output),
        model=ModelEntry(scheme=Scheme.FLOAT32, opset=opset),
        runtime=RuntimeEntry(engine="onnxruntime"),
        tools={},
    )
    files = {"model.onnx": path, "golden.npz": golden_bytes(golden)}
    return pack_bundle(description=description, files=files, output=folder / net)


def _overhead(net: str, bundle: Path, *, turns: int) -> list[Row]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    bare = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, providers=providers)
    model = load_model(bundle, threads=1)
    tensor = np.random.default_rng(1).normal(size=(1, *NETS[net].shape)).astype(np.float32)
    name = bare.get_inputs()[0].name
    runs: dict[str, Callable[[], object]] = {
        "bare session": lambda: bare.run(None, {name: tensor}),
        "Session.logits": lambda: model.session.logits(tensor),
        "Model.predict": lambda: model.predict(tensor),
    }
    taken = dict(zip(runs, measure_in_turns(list(runs.values()), min_turns=turns, max_seconds=60), strict=True))
    base = taken["bare session"]
    rows = []
    for what, mine in taken.items():
        p50 = mine.latency.p50
        times = {"value": p50.value_ms, "n": mine.latency.runs, "low": p50.low_ms, "high": p50.high_ms}
        rows.append(Row(what=f"{net}, {what}", unit="ms, median", **times))
        if mine is not base:
            # The two change places: what is asked for is the time of ours over the bare one's.
            slower = compare_turns(mine, base)
            figures = {"value": slower.speedup, "n": slower.turns, "low": slower.low, "high": slower.high}
            row = Row(what=f"{net}, {what}: overhead", unit="times", against="bare session", **figures)
            rows.append(row)
    return rows


def _images(folder: Path, *, count: int) -> list[Path]:
    """JPEG files of blurred noise, which cost as much to decode as photographs of their size."""
    paths = [folder / f"{i:05}.jpg" for i in range(count)]
    if not folder.exists():
        folder.mkdir()
        rng = np.random.default_rng(2)
        noise = [
            Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize((500, 375)) for _ in range(8)
        ]
        for i, path in enumerate(paths):
            noise[i % len(noise)].save(path, quality=90)
    return paths


def _folder(net: str, model: Model, paths: list[Path], *, turns: int) -> Row:
    """Speed of `predict_files` over one by one; which of the two goes first changes from turn to turn."""
    ways = (lambda: _one_by_one(model, paths), lambda: list(predict_files(model, paths)))
    ratios = []
    for turn in range(turns):
        seconds = {}
        for way in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            ways[way]()
            seconds[way] = time.perf_counter() - began
        ratios.append(seconds[0] / seconds[1])
    ratios.sort()
    low, high = quantile_ranks(len(ratios), 0.5)
    return Row(
        what=f"{net}, {len(paths)} files: speed",
        value=ratios[len(ratios) // 2],
        unit="times, median of turns",
        n=turns,
        low=ratios[0] if low is None else ratios[low],
        high=ratios[-1] if high is None else ratios[high],
        against="one by one",
    )


def _one_by_one(model: Model, paths: list[Path]) -> None:
    for path in paths:
        model.predict(decode_image(path, model.bundle.manifest.input)[None])


if __name__ == "__main__":
    main()
