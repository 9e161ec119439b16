"""What parts of the recipe bring: variants of one compression, in pairs of the same seed.

    python benchmarks/gains.py fashion-resnet8 --samples 50 10 --output benchmarks/results/gains.json
    python benchmarks/gains.py digits --variants plain few ours --output benchmarks/results/gains.json
    python benchmarks/gains.py fashion-resnet8 --variants one-cut two-cuts --set compress.keep_flops=0.25

`plain` is the method as its paper has it, `tuned` the same with the rate and the schedule at which it agreed most with
its teacher on images that nobody learned from (benchmarks/ablation.py), `few` our recipe on the few samples alone,
`ours` the same with OOD images. `few` over `plain` is what the recipe brings, `ours` over `few` what the OOD images
bring. `one-cut` and `two-cuts` are `ours` with that many stages.

Accuracies are of all test images, which take part in no choice. First: python benchmarks/unpack_mosaics.py, then
train_trashnet.py or train_fashion.py for those. With --output every seed is kept when it is finished; one that is there
is not run again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.cli.build import parse_setting
from edgec.compress.config import Variant
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from rows import Row, arguments, kept, over_seeds, record, show

CONFIGS = Path(__file__).parent / "configs"
VARIANTS: dict[str, tuple[Variant, tuple[tuple[str, Any], ...]]] = {
    "plain": ("plain", ()),
    "few": ("few", ()),
    "tuned": ("plain", (("compress.mir.learning_rate", 0.2), ("compress.mir.schedule", "one-cycle"))),
    "ours": ("ours", ()),
    "one-cut": ("ours", (("compress.oefsmc.stages", 1),)),
    "two-cuts": ("ours", (("compress.oefsmc.stages", 2),)),
}
"""How each compresses, and its own settings."""
PAIRS = (("few", "plain"), ("few", "tuned"), ("ours", "few"), ("ours", "plain"), ("two-cuts", "one-cut"))
Figures = dict[str, dict[int, float]]
"""By what a row is called, and seed."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs, or digits")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["few", "ours"])
    parser.add_argument("--samples", nargs="+", type=int, default=[50])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--label", help="what the rows are called; the config's name, unless settings are overridden")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all variants")
    given = parser.parse_args()
    settings = [parse_setting(text) for text in given.set]
    name = given.label or " ".join([given.config, *given.set])
    figures = kept(given.output) if given.output else {}
    for seed in given.seeds[: 1 if given.quick else None]:
        for samples in given.samples:
            title = f"{name}: {samples} samples"
            asked = [v for v in given.variants if seed not in figures.get(f"{title}: {v}: accuracy", {})]
            if asked:
                own = [*settings, ("data.few.total", samples), ("seed", seed)]
                for what, value in _measured(given.config, own, asked).items():
                    figures.setdefault(f"{title}: {what}", {})[seed] = value
                    print(f"seed {seed}, {title}: {what} {value:.4f}", file=sys.stderr)
                if given.output:
                    record(_rows(figures, title), given.output)
    titles = [f"{name}: {samples} samples" for samples in given.samples]
    show([row for title in titles for row in _rows(figures, title)], as_json=given.json)


def _measured(config: str, settings: list[tuple[str, Any]], variants: Sequence[str]) -> dict[str, float]:
    sources = _sources(config, settings)
    with tempfile.TemporaryDirectory() as folder:
        data.run(sources, Path(folder))
        images = data.read(Path(folder), sources.plan)
    teacher = _by_class(logits_of(sources.classifier, sources.test), sources.test)
    found = _figures("teacher", teacher, teacher)
    for variant in variants:
        how, own = VARIANTS[variant]
        student = compressed(_sources(config, [*settings, *own]), images, variant=how)
        kept_flops = next(step.facts["kept_flops"] for step in student.history if "kept_flops" in step.facts)
        found |= _figures(variant, _by_class(logits_of(student, sources.test), sources.test), teacher)
        found[f"{variant}: kept multiply-adds"] = float(kept_flops)
    return found


def _sources(config: str, settings: list[tuple[str, Any]]) -> Sources:
    path = None if config == "digits" else CONFIGS / f"{config}.toml"
    return Sources(plan_build(read_config(path, settings), accelerator=Accelerator.AUTO), Silent())


def _by_class(logits: np.ndarray, test: Samples) -> tuple[float, np.ndarray]:
    """Top-1 and each class's accuracy."""
    right = logits.argmax(1) == test.labels
    return float(right.mean()), np.array([right[test.labels == label].mean() for label in np.unique(test.labels)])


def _figures(what: str, got: tuple[float, np.ndarray], teacher: tuple[float, np.ndarray]) -> Mapping[str, float]:
    (top1, classes), (_, before) = got, teacher
    drop = {} if what == "teacher" else {f"{what}: largest class drop": float((before - classes).max())}
    return {f"{what}: accuracy": top1, f"{what}: worst class": float(classes.min()), **drop}


def _rows(figures: Figures, title: str) -> list[Row]:
    """Every figure of one title, and differences in pairs of the same seed."""
    own = {what: values for what, values in figures.items() if what.startswith(f"{title}: ") and " over " not in what}
    rows = [over_seeds(what, "share", values) for what, values in own.items()]
    for first, second in PAIRS:
        for measure in ("accuracy", "worst class"):
            left, right = (own.get(f"{title}: {variant}: {measure}", {}) for variant in (first, second))
            paired = {seed: value - right[seed] for seed, value in left.items() if seed in right}
            if paired:
                rows.append(over_seeds(f"{title}: {first} over {second}: {measure}", "share", paired))
    return rows


if __name__ == "__main__":
    main()
