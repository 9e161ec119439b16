"""Time of `edgec check`: on a finished bundle, and running it again on 10,000 images against bare onnxruntime.

    python benchmarks/check.py [--bundle BUNDLE] [--runs 10] [--quick]     (first: python benchmarks/unpack_mosaics.py)

The first is a whole process, from the shell to its exit code. The second happens within one process, warm: each turn
evaluates the bundle on the test images (decode, check, digest, normalise, infer, count) and then runs the same graph in
an onnxruntime session of its own on the ready tensors, in batches of the same size and with as many threads. Without
--bundle, a ResNet-20 for CIFAR-10 is built in int8, not compressed, which takes about a minute of processor time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import build
from edgec.pipeline.check import evaluate_again, read_evidence
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.store import Store
from edgec.runtime import load_model
from rows import Row, arguments, show

CONFIG = Path(__file__).parent / "configs" / "cifar10-resnet20.toml"
TEST = Path(__file__).parent / "data" / "cifar10_test.npz"
BATCH = 32
"""Images at once, as `load_model` runs them."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    runs = 3 if given.quick else given.runs
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or _built(Path(folder))
        rows = [_of_process(bundle, runs), *_of_evaluation(bundle, runs)]
    show(rows, as_json=given.json, output=given.output)


def _built(folder: Path) -> Path:
    plan = plan_build(read_config(CONFIG, [("compress.method", "none")]), accelerator=Accelerator.CPU)
    build(plan, store=Store(folder / "cache"), output=folder / "bundle", progress=Silent())
    return folder / "bundle"


def _of_process(bundle: Path, runs: int) -> Row:
    command = [sys.executable, "-m", "edgec", "check", str(bundle), "--min-accuracy", "0.5", "--baseline", str(bundle)]

    def check() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return _row("edgec check, with a baseline: whole process", [_seconds(check) for _ in range(runs)])


def _of_evaluation(bundle: Path, runs: int) -> list[Row]:
    model, evidence = load_model(bundle), read_evidence(bundle)
    with np.load(TEST) as file:
        tensors = model.session.feed(file["images"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = model.bundle.manifest.runtime.threads or 0
    bare = onnxruntime.InferenceSession(
        model.bundle.read_bytes("model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def ours() -> None:
        evaluate_again(bundle, evidence, TEST, progress=Silent())

    def theirs() -> None:
        for start in range(0, len(tensors), BATCH):
            bare.run(None, {model.session.input: tensors[start : start + BATCH]})

    ours(), theirs()
    turns = [(_seconds(ours), _seconds(theirs)) for _ in range(runs)]
    mine, base = zip(*turns, strict=True)
    ratio = statistics.median(a / b for a, b in turns)
    whole = f"evaluation of {len(tensors):,} images"
    peer = _row(f"bare onnxruntime on {len(tensors):,} tensors", list(base))
    return [_row(whole, list(mine), against="bare onnxruntime", ratio=ratio), peer]


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _row(what: str, seconds: list[float], *, against: str | None = None, ratio: float | None = None) -> Row:
    middle = statistics.median(seconds)
    spread = {"low": min(seconds), "high": max(seconds)}
    return Row(what=what, value=middle, unit="s, median", n=len(seconds), against=against, ratio=ratio, **spread)


if __name__ == "__main__":
    main()
