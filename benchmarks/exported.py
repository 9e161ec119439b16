"""Torch against the exported graph, and int8 against FP32 in both schemes, on the CIFAR-10 test images.

Also what was trained with int4 weights against the file that ships, and against FP32.

    python benchmarks/exported.py [--config cifar10-resnet20] [--quick]
    python benchmarks/exported.py --config cifar10-resnet56 --only u8s8 s8s8 --set compress.method=none     the teacher

Builds the config once per scheme (first: python benchmarks/unpack_mosaics.py); compression is done once.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from edgec.calibrate import Ranges
from edgec.cli.build import parse_setting
from edgec.core.progress import Silent
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import build
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.refining import REFINED, REFINED_RANGES
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, evaluate, quantize
from edgec.pipeline.stages.quantize import MODEL
from edgec.pipeline.store import Store
from edgec.quantize.network import Network
from rows import Row, arguments, show

CONFIGS = Path(__file__).parent / "configs"
SCHEMES = {
    "u8s8": {"scheme": "u8s8"},
    "s8s8": {"scheme": "s8s8"},
    "int4 weights": {"weight_bits": 4},
    "int4 weights, trained": {"weight_bits": 4, "train": True},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--config", default="cifar10-resnet20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SCHEMES, default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every build")
    given = parser.parse_args()
    rows: list[Row] = []
    more = [parse_setting(text) for text in given.set] + ([("compress.steps", 50)] if given.quick else [])
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            chosen = [(f"quantize.{key}", value) for key, value in SCHEMES[name].items()]
            settings = [*chosen, ("seed", given.seed), *more]
            config = read_config(CONFIGS / f"{given.config}.toml", settings)
            plan = plan_build(config, accelerator=Accelerator.AUTO)
            store = Store(Path(folder) / "cache")
            build(plan, store=store, output=Path(folder) / "bundle", progress=Silent())
            with np.load(store.path(evaluate.key(plan)) / "logits.npz") as logits:
                fp32, int8, labels = (logits[name] for name in ("compressed", "artifact", "labels"))
            if not rows and (student := compress.key(plan)) is not None:
                sources = Sources(plan, Silent())
                torch_logits = logits_of(sources.student(store.path(student)), sources.test)
                same = float((torch_logits.argmax(1) == fp32.argmax(1)).mean())
                rows.append(Row(what="torch and ONNX: same class", value=same, unit="share", n=len(labels)))
            rows += _drops(name, fp32, int8, labels)
            if (store.path(quantize.key(plan)) / REFINED).exists():
                same = float((_refined_logits(plan, store).argmax(1) == int8.argmax(1)).mean())
                rows.append(
                    Row(what=f"{name}: net in torch and file, same class", value=same, unit="share", n=len(labels))
                )
            print(f"{name} done", file=sys.stderr)
    show(rows, as_json=given.json, output=given.output)


def _refined_logits(plan: Plan, store: Store) -> np.ndarray:
    """What the net that was refined, rounded in torch, says of the test images."""
    folder, sources = store.path(quantize.key(plan)), Sources(plan, Silent())
    ranges = Ranges.from_json((folder / REFINED_RANGES).read_text(encoding="utf-8"))
    network = Network(onnx.load(folder / REFINED), ranges, plan.target)
    feed = sources.session(folder / MODEL).feed
    with torch.inference_mode():
        return np.concatenate([network(torch.from_numpy(feed(batch))).numpy() for batch in sources.test.batches(256)])


def _drops(scheme: str, fp32: np.ndarray, int8: np.ndarray, labels: np.ndarray) -> list[Row]:
    before, after = (rows.argmax(1) == labels for rows in (fp32, int8))
    by_class = [float(before[labels == label].mean() - after[labels == label].mean()) for label in np.unique(labels)]
    whole = float(before.mean() - after.mean())
    return [
        Row(what=f"{scheme}: top-1 lost", value=whole, unit="share", n=len(labels), against="its FP32"),
        Row(
            what=f"{scheme}: most lost by a class", value=max(by_class), unit="share", n=len(labels), against="its FP32"
        ),
    ]


if __name__ == "__main__":
    main()
