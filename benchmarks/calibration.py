"""What observing ranges costs: time against a bare onnxruntime pass over the same images, and peak memory.

    python benchmarks/calibration.py [--observers minmax mse …] [--images 500 5000] [--quick]

ResNet-18 with random weights at 224×224 pixels, images of noise that are made as they are asked for. Every pass is a
process of its own: half of the bare one, the observer, the other half. A pass is timed without its imports, the bare
one without opening the model too, which observing does twice. Processor time bears with a machine that others use.
Last, for each observer that counts a sample of the values, how far the furthest end of a range lies from where all
values would put it, as a share of the range.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from edgec.calibrate import CalibrationSet, Ranges, Recipe, observe_ranges, ranges
from edgec.core.host import peak_bytes
from edgec.core.inputs import InputSpec, normalise
from edgec.core.target import load_target
from rows import Row, arguments, show

SPEC = InputSpec(height=224, width=224)
TARGET = "x86-vnni"
BATCH = 16
OBSERVERS = get_args(Recipe.model_fields["observer"].annotation)
BY_EXTREMES = ("minmax", "moving-average")
COMPARED = 128
"""Images over which ranges from a sample are compared with those from all values."""

T = TypeVar("T")


class Noise:
    """Images that are made when they are asked for, always the same, so that they take no memory."""

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, height, width, channels]; contrast differs from image to image."""
        return np.stack([_noise(int(index)) for index in indices])


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A pass over images in a process of its own."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--observers", nargs="+", default=OBSERVERS, choices=OBSERVERS)
    parser.add_argument("--images", nargs="+", type=int, default=[500, 5000])
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    counts = [100, 500] if given.quick else given.images
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet18.onnx"
        _alone(_export, model)
        for observer in given.observers:
            rows += _cost(model, observer, counts, given.classes)
            if observer not in BY_EXTREMES:
                rows.append(_alone(_deviation, model, observer, 32 if given.quick else COMPARED, given.classes))
            print(f"{observer} done", file=sys.stderr)
    show(rows, as_json=given.json, output=given.output)


def _cost(model: Path, observer: str, counts: list[int], classes: int) -> list[Row]:
    rows: list[Row] = []
    passes: dict[int, Pass] = {}
    for n in counts:
        half = _alone(_bare, model, 0, n // 2)
        passes[n] = seen = _alone(_observed, model, observer, n, classes)
        rest = _alone(_bare, model, n // 2, n)
        bare, bare_cpu = half.seconds + rest.seconds, half.cpu_seconds + rest.cpu_seconds
        least = passes[counts[0]]
        growth = (seen.seconds / n) / (least.seconds / counts[0])
        for what, value, unit, against, ratio in (
            ("time", seen.seconds, "s", "a bare pass", seen.seconds / bare),
            ("processor time", seen.cpu_seconds, "s", "a bare pass", seen.cpu_seconds / bare_cpu),
            ("time an image", seen.seconds / n * 1e3, "ms", f"{counts[0]} images", growth),
            ("peak memory", seen.peak_mb, "MB", f"{counts[0]} images", seen.peak_mb / least.peak_mb),
        ):
            name = f"{observer}, {n} images: {what}"
            rows.append(Row(what=name, value=value, unit=unit, n=n, against=against, ratio=ratio))
    return rows


def _alone(function: Callable[..., T], *given: Any) -> T:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *given).result()


def _export(path: Path) -> None:
    import torch
    from torchvision.models import resnet18

    from edgec.core.classifier import Classifier
    from edgec.export.onnx import export_onnx

    torch.manual_seed(0)
    labels = tuple(map(str, range(1000)))
    export_onnx(Classifier(module=resnet18().eval(), input=SPEC, labels=labels), path, opset=18)


def _bare(model: Path, start: int, end: int) -> Pass:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name, noise = session.get_inputs()[0].name, Noise()
    session.run(None, {name: normalise(noise[np.arange(BATCH)], SPEC)})

    def run() -> None:
        for first in range(start, end, BATCH):
            session.run(None, {name: normalise(noise[np.arange(first, min(first + BATCH, end))], SPEC)})

    return _timed(run)


def _observed(model: Path, observer: str, n: int, classes: int) -> Pass:
    import onnx
    import onnxruntime

    del onnx, onnxruntime  # imported, not timed
    return _timed(lambda: _ranges(model, observer, n, classes))


def _timed(run: Callable[[], object]) -> Pass:
    began, began_cpu = time.perf_counter(), time.process_time()
    run()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return Pass(seconds=seconds, cpu_seconds=cpu_seconds, peak_mb=peak_bytes() / 2**20)


def _deviation(model: Path, observer: str, n: int, classes: int) -> Row:
    """Counts as many values of each image as in a pass over many, then all."""
    ranges.__dict__["_COUNTED_VALUES"] = 0
    sampled = _ranges(model, observer, n, classes).bounds
    ranges.__dict__["_COUNTED_VALUES"] = 1 << 40
    full = _ranges(model, observer, n, classes).bounds
    far = [max(abs(sampled[name][end] - ends[end]) for end in (0, 1)) / np.ptp(ends) for name, ends in full.items()]
    return Row(
        what=f"{observer}: an end's distance from that of all values, median tensor (to the furthest)",
        value=float(np.median(far)),
        unit="of the range",
        n=n,
        low=float(min(far)),
        high=float(max(far)),
    )


def _ranges(model: Path, observer: str, n: int, classes: int) -> Ranges:
    images = CalibrationSet(
        pixels=Noise(),  # pyright: ignore[reportArgumentType]  # made batch by batch
        labels=np.arange(n) % classes,
        weights=np.full(n, 1 / n),
        is_ood=np.zeros(n, dtype=bool),
        digests=tuple(f"{index:08d}" for index in range(n)),
        classes=tuple(map(str, range(classes))),
        recipe="benchmark",
        sources=("noise",),
    )
    recipe = Recipe.model_validate({"name": "benchmark", "title": "Benchmark", "observer": observer})
    return observe_ranges(
        model, images, recipe, target=load_target(TARGET), feed=lambda pixels: normalise(pixels, SPEC)
    )


def _noise(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    shape = (SPEC.height, SPEC.width, SPEC.channels)
    return rng.integers(0, int(rng.integers(64, 257)), shape, dtype=np.uint8)


if __name__ == "__main__":
    main()
