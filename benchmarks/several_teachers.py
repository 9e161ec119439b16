"""Several teachers against one: the same net, pruned and recovered alike; only what compares logits differs.

    python benchmarks/several_teachers.py sizes --set compress.steps=100
    python benchmarks/several_teachers.py halves --teacher-steps 800 --set compress.steps=300

`sizes`: CIFAR-10, a ResNet-20 that is compressed, and a ResNet-56 beside it. `halves`: Fashion-MNIST, two ResNet-8, of
which each saw every image of five classes and one in `--imbalance` of the others; the one that is compressed knows the
first five. They are trained here, and kept in benchmarks/data. Each tells how often it saw each class, and accuracies
are those of logits with that taken out, as it is in what ships.

`features` compares no logits, which is the default; `alone` those of the teacher that is compressed; `mean` and
`attention` those of both. Accuracies are of all test images, which take part in no choice. First:
python benchmarks/unpack_mosaics.py, and train_fashion.py for `halves`. With --output every seed is kept when it is
finished; one that is there is not run again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from edgec.cli.build import parse_setting
from edgec.core.progress import Silent
from edgec.learn.config import MimicConfig
from edgec.learn.prior import logit_shift, training_counts
from edgec.learn.teachers import together
from edgec.models.config import Weighing
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from edgec.pipeline.teachers import teachers_of
from rows import Row, arguments, commit, over_seeds, read_runs, record, show
from teachers import train_on

HERE = Path(__file__).parent
WEIGHT = ("compress.oefsmc.recovery.logit_weight", 0.05)
"""What the logits weigh, beside features; `--set` of another goes before."""
PAIRS = (("mean", "features"), ("attention", "features"), ("mean", "alone"), ("attention", "alone"))
Settings = list[tuple[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compressed, and the teacher beside it.

    Attributes:
        title: The first part of the rows' names.
        config: Of what is compressed.
        own: Settings of the model.
        further: The table of the further teacher.
    """

    title: str
    config: Path
    own: Settings
    further: Mapping[str, Any]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("cases", nargs="+", choices=("sizes", "halves"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--imbalance", type=int, default=50, help="of the two teachers' halves")
    parser.add_argument("--teacher-steps", type=int, default=1500, help="of the two teachers' training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all ways")
    given = parser.parse_args()
    settings, rows = [*map(parse_setting, given.set)], list[Row]()
    for name in given.cases:
        case = _sizes() if name == "sizes" else _halves(given.imbalance, given.teacher_steps)
        title = " ".join([case.title, *given.set])
        figures = _kept(given.output, title) if given.output else {}
        for seed in given.seeds[: 1 if given.quick else None]:
            if seed not in figures.get(f"{title}: attention: accuracy", {}):
                for what, value in _measured(case, [WEIGHT, *settings, ("seed", seed)]).items():
                    figures.setdefault(f"{title}: {what}", {})[seed] = value
                    print(f"seed {seed}, {title}: {what} {value:.4f}", file=sys.stderr, flush=True)
                if given.output:
                    record(_rows(figures, title), given.output)
        rows += _rows(figures, title)
    show(rows, as_json=given.json)


def _kept(path: Path, title: str) -> dict[str, dict[int, float]]:
    """What the code as it is now has measured already."""
    runs = [run for run in read_runs(path) if run.commit == commit()] if path.exists() else []
    found = {row.what: dict(zip(row.seeds, row.values, strict=True)) for run in runs for row in run.rows}
    return {what: values for what, values in found.items() if what.startswith(f"{title}: ") and " over " not in what}


def _sizes() -> Case:
    config, other = (HERE / "configs" / f"cifar10-{name}.toml" for name in ("resnet20", "resnet56"))
    larger = read_config(other).model
    further = {"name": larger.name, "weights": str(larger.weights)}
    return Case(title="CIFAR-10, ResNet-20 beside ResNet-56", config=config, own=[], further=further)


def _halves(imbalance: int, steps: int) -> Case:
    config = HERE / "configs" / "fashion-resnet8.toml"
    halves = [_half(config, half, imbalance, steps) for half in (0, 1)]
    (weights, counts), (other, beside) = halves
    own: Settings = [("model.weights", str(weights)), ("model.trained_on", counts)]
    further = {"name": read_config(config).model.name, "weights": str(other), "trained_on": beside}
    title = f"Fashion-MNIST, halves at {imbalance}, taught for {steps} steps"
    return Case(title=title, config=config, own=own, further=further)


def _half(config: Path, half: int, imbalance: int, steps: int) -> tuple[Path, list[int]]:
    """Weights of a teacher that saw few images of the other half of the classes, and how many of each."""
    bound = read_config(config)
    whole = Sources(plan_build(bound, accelerator=Accelerator.AUTO), Silent()).train
    classes, rng = len(whole.classes), np.random.default_rng(half)
    known = (np.arange(classes) < classes // 2) == (half == 0)
    counts = np.where(known, whole.counts, whole.counts // imbalance)
    place = HERE / "data" / f"half-{half}-{imbalance}-{steps}.safetensors"
    if not place.exists():
        chosen = [rng.choice(np.flatnonzero(whole.labels == c), n, replace=False) for c, n in enumerate(counts)]
        part = whole.choose(np.concatenate(chosen))
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "part.npz"
            np.savez(images, images=part.decoded(), labels=part.labels, names=np.array(part.classes))
            train_on(bound, images, place, steps=steps)
    return place, counts.tolist()


def _measured(case: Case, settings: Settings) -> dict[str, float]:
    beside = ("model.also", [dict(case.further)])
    ways: dict[str, Settings] = {
        "features": [(WEIGHT[0], 0.0)],
        "alone": [],
        "mean": [beside],
        "attention": [beside, ("model.teachers", "attention")],
    }
    sources = _sources(case, settings)
    with tempfile.TemporaryDirectory() as folder:
        data.run(sources, Path(folder))
        images = data.read(Path(folder), sources.plan)
    found = _of_teachers(_sources(case, [*settings, beside]), images)
    for way, own in ways.items():
        student = compressed(_sources(case, [*settings, *own]), images, variant="ours")
        found |= _figures(way, logits_of(student, sources.test) + _shift(sources, images), sources)
    return found


def _of_teachers(sources: Sources, images: data.Prepared) -> dict[str, float]:
    """Each teacher alone, and what both say together."""
    test, counts = sources.test, training_counts(sources.plan.model.trained_on, images.few)
    further = replace(sources.classifier, module=sources.further[0].module)
    frequencies = teachers_of(sources, images.few, counts).frequencies
    both = [logits_of(classifier, test) for classifier in (sources.classifier, further)]
    alike = [logits - logs for logits, logs in zip(both, frequencies.log().numpy(), strict=True)]
    found = _figures("the teacher that is compressed", alike[0], sources)
    found |= _figures("the further teacher", alike[1], sources)
    for weighing in get_args(Weighing):
        given = torch.from_numpy(np.stack(both))
        joined = together(given, frequencies, weighing=weighing, temperature=MimicConfig().temperature).numpy()
        found |= _figures(f"both teachers, {weighing}", joined - frequencies[0].log().numpy(), sources)
    return found


def _shift(sources: Sources, images: data.Prepared) -> np.ndarray | float:
    """What takes the frequencies of the compressed teacher's training out, as in what ships."""
    counts = training_counts(sources.plan.model.trained_on, images.few)
    return 0.0 if counts is None else logit_shift(counts, strength=1.0)


def _sources(case: Case, settings: Settings) -> Sources:
    config = read_config(case.config, [*case.own, *settings])
    return Sources(plan_build(config, accelerator=Accelerator.AUTO), Silent())


def _figures(what: str, logits: np.ndarray, sources: Sources) -> dict[str, float]:
    """Top-1 and the worst class."""
    labels = sources.test.labels
    right = logits.argmax(axis=1) == labels
    classes = [right[labels == label].mean() for label in np.unique(labels)]
    return {f"{what}: accuracy": float(right.mean()), f"{what}: worst class": float(min(classes))}


def _rows(figures: Mapping[str, Mapping[int, float]], title: str) -> list[Row]:
    """Every figure of one title, and differences in pairs of the same seed."""
    rows = [over_seeds(what, "share", values) for what, values in figures.items()]
    for first, second in PAIRS:
        for measure in ("accuracy", "worst class"):
            left, right = (figures.get(f"{title}: {way}: {measure}", {}) for way in (first, second))
            paired = {seed: value - right[seed] for seed, value in left.items() if seed in right}
            if paired:
                rows.append(over_seeds(f"{title}: {first} over {second}: {measure}", "share", paired))
    return rows


if __name__ == "__main__":
    main()
