"""int8 against FP32 in onnxruntime on this machine, as edgec exports, calibrates and quantises for the target `host`.

    python benchmarks/int8_speed.py [--nets resnet18 mobilenet_v2] [--threads 1 2] [--why] [--quick]

torchvision's nets at 224×224 with random weights, calibrated on noise: neither matters to the time. FP32 and int8 run a
few milliseconds each in turn; the ratio is the median over neighbouring turns, with its 95 % interval. `--why` adds
where int8's time goes, from onnxruntime's profile: the least time of each operator, summed by type.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from edgec.bench.latency import Turns, measure_in_turns
from edgec.bench.payoff import compare_turns, profile_kernels
from edgec.core.target import Target, load_target
from edgec.runtime import Session
from nets import INPUT, calibrated, exported
from rows import Row, arguments, show

IMAGES = 8


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", nargs="+", default=["resnet18", "mobilenet_v2"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--why", action="store_true", help="add the time by type of operator, with onnxruntime's threads"
    )
    given = parser.parse_args()
    target = load_target("host")
    print(f"scheme {target.quantization.scheme.value}", file=sys.stderr)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for net in given.nets:
            models = _export(net, target, Path(folder))
            for threads in given.threads:
                rows += _compare(net, models, threads=threads, max_seconds=6 if given.quick else 30)
            if given.why:
                rows += _why(net, models["int8"])
    show(rows, as_json=given.json, output=given.output)


def _export(net: str, target: Target, folder: Path) -> dict[str, Path]:
    fp32 = exported(net, target, folder)
    int8 = calibrated(fp32, target, folder / f"{net}-int8.onnx", images=IMAGES)
    print(f"{net} is exported", file=sys.stderr)
    return {"FP32": fp32, "int8": int8}


def _compare(net: str, models: dict[str, Path], *, threads: int, max_seconds: float) -> list[Row]:
    tensor = np.random.default_rng(1).normal(size=(1, *INPUT.shape)).astype(np.float32)
    sessions = [Session(path, INPUT, threads=threads) for path in models.values()]
    runs = [lambda session=session: session.logits(tensor) for session in sessions]
    turns = dict(zip(models, measure_in_turns(runs, min_turns=200, max_seconds=max_seconds), strict=True))
    payoff = compare_turns(turns["FP32"], turns["int8"])
    what = f"{net}, {threads} thread{'s' * (threads > 1)}"
    speed = Row(
        what=f"{what}: speed of int8",
        value=payoff.speedup,
        unit="times, median",
        n=payoff.turns,
        low=payoff.low,
        high=payoff.high,
        against="FP32",
        ratio=payoff.speedup,
    )
    return [*(_time(f"{what}: {name}", taken) for name, taken in turns.items()), speed]


def _time(what: str, taken: Turns) -> Row:
    p50 = taken.latency.p50
    return Row(what=what, value=p50.value_ms, unit="ms, median", n=taken.latency.runs, low=p50.low_ms, high=p50.high_ms)


def _why(net: str, model: Path) -> list[Row]:
    tensor = np.random.default_rng(1).normal(size=(1, *INPUT.shape)).astype(np.float32)
    times: dict[str, list[float]] = defaultdict(list)
    for kernel in profile_kernels(model, tensor, runs=60):
        times[kernel.op].append(kernel.ms)
    totals = {op: sum(taken) for op, taken in times.items()}
    whole = sum(totals.values())
    return [
        Row(
            what=f"{net}: {op}",
            value=sum(taken),
            unit="ms, least",
            n=len(taken),
            against="all",
            ratio=sum(taken) / whole,
        )
        for op, taken in sorted(times.items(), key=lambda item: -sum(item[1]))
    ]


if __name__ == "__main__":
    main()
