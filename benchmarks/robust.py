"""Robust recovery: clean and corrupted accuracy of students, by what they saw while their teacher saw clean images.

    python benchmarks/robust.py cifar10-resnet20 [--steps 300] [--images 500] [--seeds 0 1 2] [--ways none mixed]

The compression is the config's, in floating point; only `compress.robust` differs. Test images, of every class alike,
are run clean and under 15 kinds of corruption at five severities. For every model there are means over the kinds that
`noise` and `mixed` train on: `seen`, `related` (another kind of a family trained on), `unseen`. AugMix trains on none.
With `--output`, rows are kept as soon as they are there; what the file has of this commit is not measured again. First:
python benchmarks/unpack_mosaics.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from edgec.cli.build import parse_setting
from edgec.core.classifier import Classifier
from edgec.core.measurement import Stage
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.evaluate.corruptions import corruption_measurements
from edgec.learn.config import OPERATIONS, Robust
from edgec.models.infer import logits_of, to_logits
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.robustness import kinds_by_training
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from rows import Row, arguments, commit, over_seeds, read_runs, record, show
from tailed import config_of

WAYS: tuple[Robust, ...] = ("none", "noise", "augmix", "mixed")
QUICK = {"steps": 20, "images": 20}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("configs", nargs="+", help="names in benchmarks/configs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=500, help="test images, of every class alike")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the compression")
    given = parser.parse_args()
    steps, images = QUICK.values() if given.quick else (given.steps, given.images)
    rows: dict[str, dict[int, float]] = {}
    for name in given.configs:
        for seed in given.seeds[: 1 if given.quick else None]:
            settings = [*map(parse_setting, given.set), ("compress.steps", steps), ("seed", seed)]
            for way in ("teacher", *given.ways):
                what = ": ".join((name, *given.set, f"{steps} steps", f"{images} images", _told(way)))
                if seed in _held(given.output, what):
                    continue
                for measure, value in _measured(name, way, settings, images):
                    rows.setdefault(f"{what}: {measure}", {})[seed] = value
                    print(f"{what}: {measure}, seed {seed}: {value:.4f}", file=sys.stderr, flush=True)
                if given.output:
                    record(_rows(rows, what), given.output)
    show(_rows(rows, ""), as_json=given.json)


def _told(way: str) -> str:
    return way if way == "teacher" else f"robust = {way}"


def _rows(figures: dict[str, dict[int, float]], beginning: str) -> list[Row]:
    return [over_seeds(what, "share", values) for what, values in figures.items() if what.startswith(beginning)]


def _held(output: Path | None, what: str) -> set[int]:
    """Seeds of a row that this commit has been measured with."""
    runs = read_runs(output) if output and output.exists() else ()
    rows = [row for run in runs if run.commit == commit() for row in run.rows if row.what.startswith(f"{what}: ")]
    return set.intersection(*(set(row.seeds) for row in rows)) if rows else set()


def _measured(name: str, way: str, settings: list[tuple[str, object]], count: int) -> Iterator[tuple[str, float]]:
    robust: Robust = "none" if way == "teacher" else way  # pyright: ignore[reportAssignmentType]  argparse's choices
    config = read_config(config_of(name), [*settings, ("compress.robust", robust)])
    sources = Sources(plan_build(config, accelerator=Accelerator.CPU), Silent())
    net = sources.classifier
    if way != "teacher":
        with tempfile.TemporaryDirectory() as folder:
            data.run(sources, Path(folder))
            net = compressed(sources, data.read(Path(folder), sources.plan), variant="ours")
    return _judged(net, sources.test.evenly(count))


def _judged(net: Classifier, test: Samples) -> Iterator[tuple[str, float]]:
    """Accuracies: clean, corrupted, by kinds trained on, of the worst class."""
    right = logits_of(net, test).argmax(axis=1) == test.labels
    yield "clean", float(right.mean())
    yield "worst class, clean", float(min(right[test.labels == label].mean() for label in np.unique(test.labels)))
    trained: tuple[Robust, ...] = ("noise", "mixed")
    by_way = {way: kinds_by_training(OPERATIONS[way]) for way in trained}
    groups = {f"{group}_by_{way}": kinds for way, of in by_way.items() for group, kinds in of.items()}
    how = {"groups": groups, "stage": Stage.COMPRESSED, "where": "torch", "progress": Silent()}
    for row in corruption_measurements(partial(to_logits, net), test, test.labels, test.classes, **how):
        if row.label is None:
            yield row.name.replace("_", " "), row.value


if __name__ == "__main__":
    main()
