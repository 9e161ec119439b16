"""torchvision's nets for a Jetson: exported, quantised, linted, and built ahead of time by TensorRT's RTX flavour.

    python benchmarks/tensorrt_zoo.py [--nets resnet18 vit_b_16] [--target jetson] [--quick]      needs edgec[trt-check]

224×224, random weights, calibrated on two images of noise: neither matters to parser, types and placement. Rows count
convolutions and matrix products in int8, of all; the rest is in floating point by the rule of docs/targets.md §3, or
the net fails. Another gives the seconds of parsing and building. `--quick` takes three small nets.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import onnx

from edgec.core.errors import EdgecError
from edgec.core.facts import TensorRTCheck
from edgec.core.target import Target, load_target
from edgec.export.ahead import prove, rtx_version
from edgec.export.lint import lint, require_clean
from nets import SMALL, ZOO, calibrated, exported
from rows import Row, arguments, show

IMAGES = 2


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", nargs="+", default=ZOO)
    parser.add_argument("--target", default="jetson")
    given = parser.parse_args()
    if rtx_version() is None:
        sys.exit("tensorrt-rtx is not installed: pip install 'edgec[trt-check]'")
    target, rows = load_target(given.target), []
    for net in SMALL if given.quick else given.nets:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            rows += _proved(net, target, Path(folder))
        print(f"{net}: {time.perf_counter() - started:.0f} s in all", file=sys.stderr, flush=True)
    show(rows, as_json=given.json, output=given.output)


def _proved(net: str, target: Target, folder: Path) -> list[Row]:
    model = calibrated(exported(net, target, folder), target, folder / "model.onnx", images=IMAGES)
    findings = lint(onnx.load(model), target)
    try:
        require_clean(findings)
        proof = prove(model, target)
    except EdgecError as error:
        print(f"{net}: {error}", file=sys.stderr)
        return [Row(what=f"{net}: built", value=0, unit="nets", n=1, against=target.name)]
    print(f"{net}: {proof.note}", file=sys.stderr)
    return [*_rows(net, proof), Row(what=f"{net}: warnings", value=len(findings), unit="findings", n=1)]


def _rows(net: str, proof: TensorRTCheck) -> list[Row]:
    whole = sum(proof.int8.values()) + len(proof.floats)
    what = {f"{kind}s in int8": count for kind, count in proof.int8.items()} | {"in float by rule": len(proof.floats)}
    counts = [
        Row(what=f"{net}: {name}", value=count, unit="operators", n=whole, against="all", ratio=count / whole)
        for name, count in what.items()
    ]
    built = Row(what=f"{net}: built", value=int(proof.proven), unit="nets", n=1, against=proof.tool)
    return [built, *counts, Row(what=f"{net}: parse and build", value=proof.seconds, unit="s", n=1)]


if __name__ == "__main__":
    main()
