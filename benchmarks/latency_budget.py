"""Latency against multiply-adds as what a budget counts: students of equal predicted latency, by each.

    python benchmarks/latency_budget.py digits --target jetson raspberry-pi-5
    python benchmarks/latency_budget.py cifar10-resnet20 --target raspberry-pi-5 --seeds 0 1 --set compress.steps=300

A rival cuts to a share of the multiply-adds: `mir` channels, `practise` whole blocks. Its student's latency on the
target, as predicted for one image in the formats that ship, is then the budget of ours, which trades blocks and
channels for each other by it. Accuracies are those of the module on all test images.
First, for CIFAR-10: python benchmarks/unpack_mosaics.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgec.cli.build import parse_setting
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.latency_price import LatencyPrice
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from rows import Row, arguments, over_seeds, show

CONFIGS = Path(__file__).parent / "configs"
Figures = dict[tuple[str, str], dict[int, float]]
UNITS = {"latency": "ms", "blocks dropped": "blocks", "kept multiply-adds": "share"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="digits, or a name in benchmarks/configs")
    parser.add_argument("--target", nargs="+", default=["jetson", "raspberry-pi-5"], metavar="NAME")
    parser.add_argument("--rivals", nargs="+", choices=("mir", "practise"), default=["mir"])
    parser.add_argument("--keep-flops", type=float, default=0.5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    settings = [parse_setting(text) for text in given.set]
    if given.quick:
        settings.append(("compress.steps", 20))
    figures: Figures = defaultdict(dict)
    for seed in given.seeds[:1] if given.quick else given.seeds:
        for target in given.target:
            shared = [*settings, ("seed", seed), ("target", target)]
            for rival in given.rivals:
                title = " ".join([given.config, *given.set, target, f"{rival} at {given.keep_flops:g}"])
                for what, value in _compared(given.config, shared, rival, given.keep_flops):
                    figures[title, what][seed] = value
                    print(f"seed {seed}, {title}: {what} {value:.4f}", file=sys.stderr)
    show(list(_rows(figures)), as_json=given.json, output=given.output)


def _compared(config: str, shared: list[tuple[str, Any]], rival: str, keep_flops: float) -> Iterator[tuple[str, float]]:
    """Figures of the teacher, of the rival's student and of ours at its latency."""
    theirs = _sources(config, [*shared, ("compress.method", rival), ("compress.keep_flops", keep_flops)])
    with tempfile.TemporaryDirectory() as folder:
        data.run(theirs, Path(folder))
        images = data.read(Path(folder), theirs.plan)
    price = LatencyPrice(theirs.classifier, theirs.plan.target, raw=False)
    yield "teacher: latency", price.whole
    first = compressed(theirs, images, variant="ours")
    yield from _figures("by multiply-adds", first, theirs, price)
    budget = price.of_net(first.module)
    ours = _sources(config, [*shared, ("compress.max_latency_ms", budget)])
    second = compressed(ours, images, variant="ours")
    yield from _figures("by latency", second, theirs, price)


def _sources(config: str, settings: list[tuple[str, Any]]) -> Sources:
    path = None if config == "digits" else CONFIGS / f"{config}.toml"
    return Sources(plan_build(read_config(path, settings), accelerator=Accelerator.AUTO), Silent())


def _figures(variant: str, student: Classifier, sources: Sources, price: LatencyPrice) -> Iterator[tuple[str, float]]:
    test = sources.test
    right = logits_of(student, test).argmax(1) == test.labels
    yield f"{variant}: accuracy", float(right.mean())
    yield f"{variant}: worst class", min(float(right[test.labels == label].mean()) for label in np.unique(test.labels))
    yield f"{variant}: latency", price.of_net(student.module)
    facts = {name: fact for step in student.history for name, fact in step.facts.items()}
    yield f"{variant}: kept multiply-adds", float(facts["kept_flops"])
    yield f"{variant}: blocks dropped", len(facts.get("dropped_blocks", []))


def _rows(figures: Figures) -> Iterator[Row]:
    """Every figure, and by how much ours is better, in pairs of the same seed."""
    for (title, what), values in figures.items():
        unit = next((unit for name, unit in UNITS.items() if what.endswith(name)), "share")
        yield over_seeds(f"{title}: {what}", unit, values)
        variant, _, measure = what.partition(": ")
        if variant == "by latency" and unit == "share" and measure != "kept multiply-adds":
            before = figures[title, f"by multiply-adds: {measure}"]
            paired = {seed: value - before[seed] for seed, value in values.items()}
            yield over_seeds(f"{title}: by latency over by multiply-adds: {measure}", "share", paired)


if __name__ == "__main__":
    main()
