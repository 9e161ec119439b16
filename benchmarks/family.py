"""A family for several targets against builds of its members by themselves: time, and accuracy of each member.

    python benchmarks/family.py [digits] [--target jetson raspberry-pi-5 x86-vnni] [--seeds 0 1 2] [--set KEY=VALUE]

Every build begins with an empty stage cache. The peer of the family's time is the first target's build alone; that of
a member's accuracy is its own build alone, in which nothing is shared. Accuracies are those of the files that ship, on
all test images. First, for CIFAR-10: python benchmarks/unpack_mosaics.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from edgec.cli.build import parse_setting
from edgec.core.measurement import Stage
from edgec.core.progress import Silent
from edgec.evaluate.report import parse_report
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import Built, build
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.family import build_family, plan_family
from edgec.pipeline.store import Store
from rows import Row, arguments, over_seeds, show

CONFIGS = Path(__file__).parent / "configs"
MEASURES = ("accuracy", "worst_class_accuracy")
Figures = dict[tuple[str, ...], dict[int, float]]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", nargs="?", default="digits", help="digits, or a name in benchmarks/configs")
    parser.add_argument("--target", nargs="+", default=["jetson", "raspberry-pi-5", "x86-vnni"], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    settings = [parse_setting(text) for text in given.set]
    if given.quick:
        settings += [("compress.steps", 5), ("data.ood_count", 60)]
    figures: Figures = defaultdict(dict)
    for seed in given.seeds[:1] if given.quick else given.seeds:
        configs = [_config(given.config, [*settings, ("seed", seed), ("target", target)]) for target in given.target]
        for place, value in _compared(configs):
            figures[place][seed] = value
            print(f"seed {seed}: {': '.join(place)} {value:.4f}", file=sys.stderr)
    title = ": ".join([" ".join([given.config, *given.set]), ", ".join(given.target)])
    show(list(_rows(title, figures)), as_json=given.json, output=given.output)


def _config(name: str, settings: list[tuple[str, Any]]) -> BuildConfig:
    return read_config(None if name == "digits" else CONFIGS / f"{name}.toml", settings)


def _compared(configs: list[BuildConfig]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Seconds and accuracies, of the family and of each build alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        plans = plan_family(configs, accelerator=Accelerator.AUTO)
        family = build_family(plans, store=Store(place / "shared"), output=place / "family", progress=Silent())
        yield ("all", "the family", "seconds"), family.seconds
        for config, member in zip(configs, family.members, strict=True):
            yield from _accuracies("the family", config.target, member)
            (plan,) = plan_family([config], accelerator=Accelerator.AUTO)
            store = Store(place / config.target)
            alone = build(plan, store=store, output=place / f"{config.target}-alone", progress=Silent())
            yield (config.target, "alone", "seconds"), alone.seconds
            yield from _accuracies("alone", config.target, alone)


def _accuracies(built_as: str, target: str, built: Built) -> Iterator[tuple[tuple[str, ...], float]]:
    path = built.bundle / "report.json"
    report = parse_report(path.read_bytes(), where=str(path))
    for name in MEASURES:
        if (found := report.find(Stage.ARTIFACT, name)) is not None:
            yield (target, built_as, name.replace("_", " ")), found.value


def _rows(title: str, figures: Figures) -> Iterator[Row]:
    """Every figure; a member's beside its own build's, the family's time beside the first target's."""
    first = next(place for place in figures if place[1:] == ("alone", "seconds"))
    for place, values in figures.items():
        unit = "s" if place[-1] == "seconds" else "share"
        row = over_seeds(f"{title}: {': '.join(place)}", unit, values)
        peer = first if place[0] == "all" else (place[0], "alone", place[-1])
        if peer != place:
            beside = fmean(figures[peer].values())
            row = replace(row, against=" ".join(peer[:2]), ratio=row.value / beside if beside else None)
        yield row
        if unit == "share" and peer != place:
            paired = {seed: value - figures[peer][seed] for seed, value in values.items()}
            yield over_seeds(f"{title}: {place[0]}: the difference: {place[-1]}", unit, paired)


if __name__ == "__main__":
    main()
