"""What the multiples in which a target's rules keep channels do to the latency of a pruned net in int8.

    python benchmarks/channel_rules.py [--keep 0.7] [--threads 1] [--quick]

Nets of torchvision at 224×224 with random weights, of which edgec's pruning keeps a share of the FLOPs. ResNet-18 on a
Jetson is predicted. MobileNetV2 and EfficientNet-B0, whose depthwise convolutions `rules.depthwise_multiple` is for,
are timed on this machine, a few milliseconds each in turn: their ratio is how many times as fast as unpruned they are,
the median over neighbouring turns, with its 95 % interval beside. `--quick` leaves EfficientNet-B0 out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torchvision

from edgec.bench.latency import measure_in_turns
from edgec.bench.payoff import compare_turns
from edgec.compress.coupling import coupled_channels
from edgec.compress.price import kept_flops
from edgec.compress.prune import prune
from edgec.compress.widths import even_widths
from edgec.core.classifier import Classifier
from edgec.core.target import Rules, Target, load_target
from edgec.export.onnx import export_onnx
from edgec.latency.roofline import predict_latency
from edgec.models.taps import find_tap
from edgec.runtime import Session
from nets import INPUT, LABELS, quantised, rounded
from rows import Row, arguments, show

MULTIPLES = (1, 4, 8, 16, 32)
IMAGE = torch.zeros(1, *INPUT.shape)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--keep", type=float, default=0.7, help="of the FLOPs")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _predicted("resnet18", given.keep, Path(folder))
        for net in ("mobilenet_v2",) if given.quick else ("mobilenet_v2", "efficientnet_b0"):
            rows += _measured(net, given.keep, given.threads, Path(folder))
    show(rows, as_json=given.json, output=given.output)


def _predicted(net: str, keep: float, folder: Path) -> list[Row]:
    target = load_target("jetson")
    pruned = _pruned(net, keep, target, folder, {n: Rules(channel_multiple=n) for n in MULTIPLES})
    found = {multiple: predict_latency(path, target) for multiple, path in pruned.items()}
    return [
        Row(
            what=f"jetson, {net}, {keep:.0%} of the FLOPs, multiples of {multiple}",
            value=prediction.latency_ms,
            unit="ms, predicted",
            n=0,
            low=prediction.low_ms,
            high=prediction.high_ms,
            against="multiples of 1",
            ratio=prediction.latency_ms / found[1].latency_ms,
        )
        for multiple, prediction in found.items()
    ]


def _measured(net: str, keep: float, threads: int, folder: Path) -> list[Row]:
    target = load_target("host")
    whole = quantised(net, target, folder)
    pruned = _pruned(net, keep, target, folder, {n: Rules(depthwise_multiple=n) for n in MULTIPLES})
    tensor = np.random.default_rng(0).normal(size=(1, *INPUT.shape)).astype(np.float32)
    sessions = [Session(path, INPUT, threads=threads) for path in (whole, *pruned.values())]
    unpruned, *found = measure_in_turns([lambda s=s: s.logits(tensor) for s in sessions], max_seconds=30)
    rows = []
    for multiple, turns in zip(pruned, found, strict=True):
        payoff = compare_turns(unpruned, turns)
        rows.append(
            Row(
                what=f"here, {net}, {keep:.0%} of the FLOPs, depthwise in multiples of {multiple}",
                value=turns.latency.p50.value_ms,
                unit="ms",
                n=turns.latency.runs,
                low=payoff.low,
                high=payoff.high,
                against=f"unpruned, {unpruned.latency.p50.value_ms:.3g} ms",
                ratio=payoff.speedup,
            )
        )
    return rows


def _pruned(net: str, keep: float, target: Target, folder: Path, rules: Mapping[int, Rules]) -> dict[int, Path]:
    """Graphs in int8, by the multiple."""
    torch.manual_seed(0)
    module = getattr(torchvision.models, net)(weights=None).eval()
    coupled = coupled_channels(module, find_tap(module, IMAGE).head, IMAGE)
    found = {}
    for multiple, rule in rules.items():
        widths = even_widths(module, coupled, kept_flops(module, IMAGE, keep), rules=rule)
        student = prune(module, {name: torch.arange(width) for name, width in widths.items()}, IMAGE).eval()
        path = folder / f"{net}-{multiple}.onnx"
        export_onnx(Classifier(module=student, input=INPUT, labels=LABELS), path, opset=target.runtime.opset)
        found[multiple] = rounded(path, target)
        print(f"{net} in multiples of {multiple}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
