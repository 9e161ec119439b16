"""Teachers that saw a long tail: what ships, with and without the teacher's class frequencies taken out of its logits.

    python benchmarks/tailed.py fashion-resnet8 cifar10-resnet20 [--imbalance 50] [--samples 50] [--seeds 0 1 2 3 4]

A teacher of the config's architecture is trained on a long tail of the config's training images, from the first label,
with the most images, to the last; it is kept in benchmarks/data. The few samples are drawn with the same imbalance, the
compression is the config's. All ways have the same student: only `model.trained_on` differs: `balanced`, the counts,
`few`, or `estimate`. The tail is the last third of the classes. Accuracies are of all test images, which take part in
no choice. First: python benchmarks/unpack_mosaics.py, and train_fashion.py for its images.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgec.cli.build import parse_setting
from edgec.core.progress import Silent
from edgec.data import draw_few
from edgec.learn.prior import logit_shift
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.prior import estimated_prior
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from rows import Row, arguments, over_seeds, show
from teachers import train_on

HERE = Path(__file__).parent
STEPS = 3_000
"""Of a teacher's training."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("configs", nargs="+", help="names in benchmarks/configs")
    parser.add_argument("--imbalance", type=float, default=50)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--teacher-steps", type=int, default=STEPS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the compression")
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.configs:
        teacher = Tailed(name, given.imbalance, given.teacher_steps)
        figures: dict[str, dict[int, float]] = {}
        for seed in given.seeds[: 1 if given.quick else None]:
            own = [*map(parse_setting, given.set), ("seed", seed)]
            for what, value in teacher.measured(own, given.samples).items():
                figures.setdefault(f"{name}: imbalance {given.imbalance:g}: {what}", {})[seed] = value
                print(f"{name}, seed {seed}: {what} {value:.4f}", file=sys.stderr, flush=True)
        rows += [over_seeds(what, "share", values) for what, values in figures.items()]
    show(rows, as_json=given.json, output=given.output)


class Tailed:
    """A long tail of a config's training images, and a teacher that learned from it."""

    def __init__(self, name: str, imbalance: float, steps: int) -> None:
        self.config, self.imbalance = config_of(name), imbalance
        place = HERE / "data" / f"tailed-{name}-{imbalance:g}-{steps}"
        self.images, self.weights = place.with_suffix(".npz"), place.with_suffix(".safetensors")
        if not self.images.exists():
            self._cut()
        with np.load(self.images) as file:
            self.counts = np.bincount(file["labels"])
        if not self.weights.exists():
            train_on(read_config(self.config), self.images, self.weights, steps=steps)

    def measured(self, settings: list[tuple[str, object]], samples: int) -> Mapping[str, float]:
        """Accuracies of teacher and student, as they are and adjusted; what the adjustment brings."""
        with tempfile.TemporaryDirectory() as folder:
            few = Path(folder) / "few.npz"
            given = [
                ("model.weights", str(self.weights)),
                ("data.train", str(self.images)),
                ("model.trained_on", "estimate"),
            ]
            config = read_config(self.config, [*given, *settings])
            self._draw(config, samples, few)
            config = config.model_copy(update={"data": config.data.model_copy(update={"train": few, "few": None})})
            sources = Sources(plan_build(config, accelerator=Accelerator.AUTO), Silent())
            data.run(sources, Path(folder))
            images = data.read(Path(folder), sources.plan)
        student = compressed(sources, images, variant="ours")
        found = dict[str, float]()
        for what, net in (("teacher", sources.classifier), ("student", student)):
            logits = logits_of(net, sources.test)
            before = accuracies(logits, sources.test.labels)
            found |= {f"{what}: balanced: {measure}": value for measure, value in before.items()}
            for told, shift in self._shifts(sources, images):
                after = accuracies(logits + shift, sources.test.labels)
                for measure, value in after.items():
                    found[f"{what}: {told}: {measure}"] = value
                    found[f"{what}: {told} over balanced: {measure}"] = value - before[measure]
        return found

    def _shifts(self, sources: Sources, images: data.Prepared) -> Iterator[tuple[str, np.ndarray]]:
        """What is added to the logits, by what `model.trained_on` is."""
        estimate = estimated_prior(sources, images, Path())
        assert estimate is not None, "the config asks for it"  # noqa: S101
        for told, counts in (("counts", self.counts), ("few", images.few.counts), ("estimate", estimate.counts)):
            used = told != "estimate" or estimate.used
            yield told, logit_shift(counts, strength=1.0) * used

    def _draw(self, config: BuildConfig, samples: int, output: Path) -> None:
        """The few samples, with the tail of the teacher's training."""
        whole = Sources(plan_build(config, accelerator=Accelerator.AUTO), Silent()).train
        few = draw_few(whole, total=samples, imbalance=self.imbalance, seed=config.seed, order=whole.classes)
        np.savez(output, images=few.decoded(), labels=few.labels, names=np.array(few.classes))

    def _cut(self) -> None:
        """Of each class in turn, fewer images, down to one part in `imbalance`."""
        plan = plan_build(read_config(self.config), accelerator=Accelerator.AUTO)
        whole = Sources(plan, Silent()).train
        rng, most, classes = np.random.default_rng(0), whole.counts.min(), len(whole.classes)
        counts = np.rint(most * self.imbalance ** (-np.arange(classes) / (classes - 1))).astype(int)
        chosen = [rng.choice(np.flatnonzero(whole.labels == c), n, replace=False) for c, n in enumerate(counts)]
        tail = whole.choose(np.concatenate(chosen))
        np.savez(self.images, images=tail.decoded(), labels=tail.labels, names=np.array(tail.classes))


def config_of(name: str) -> Path | None:
    """The file of a config in benchmarks/configs; None for the embedded digits."""
    return None if name == "digits" else HERE / "configs" / f"{name}.toml"


def accuracies(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of all images, of the last third of the classes, of the worst class."""
    right = logits.argmax(axis=1) == labels
    classes = np.array([right[labels == label].mean() for label in np.unique(labels)])
    tail = classes[-(len(classes) // 3) :]
    return {"accuracy": float(right.mean()), "tail": float(tail.mean()), "worst class": float(classes.min())}


if __name__ == "__main__":
    main()
