"""What estimates of a tailed teacher's class frequencies are worth, and what they cost a teacher that saw no tail.

    python benchmarks/priors.py fashion-resnet8:50:1500 digits:50:800 fashion-resnet8 digits cifar10-resnet20

`NAME:IMBALANCE:STEPS` is a teacher that learned from a long tail, as `tailed.py` trains it; `NAME` alone is the
config's own, which saw all classes alike. `digits` are the embedded ones. Only the teacher is looked at: its logits on
all test images are shifted by what each way says. The few samples are drawn from the tail that the teacher saw, or from
all training images, with rare classes at random ("own few"). Seeds draw the few samples, the OOD images and the views.

Ways: `counts` and `few` as `model.trained_on` has them; `estimate`, as it has it; `rows`, the same, always used;
`views`, a bias for each class that maximises the class-balanced likelihood of changed few samples, with a ridge;
`mean`, the mean probabilities of these; `ood`, the class mass of OOD images by expectation maximisation (Saerens et al.
2002); `blank`, the probabilities of one grey image (content-free calibration, Zhao et al. 2021).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.data import draw_few, load_samples
from edgec.learn.draws import balanced_chances
from edgec.learn.prior import logit_shift
from edgec.learn.temperature import changed, probabilities
from edgec.models.infer import logits_of, to_tensor
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.prior import estimated_with, head_of
from edgec.pipeline.sources import Sources
from rows import Row, arguments, over_seeds, show
from tailed import Tailed, accuracies, config_of

VIEWS, RIDGE, ROUNDS = 1000, 0.01, 100
FEW_IMBALANCE = 50
"""Of few samples whose rare classes are drawn at random."""
LEAST = 1e-6
"""Of a probability whose logarithm is taken."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("teachers", nargs="+", help="NAME:IMBALANCE:STEPS or NAME")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.teachers:
        teacher = Teacher.of(name)
        figures: dict[str, dict[int, float]] = {}
        for seed in given.seeds[: 1 if given.quick else None]:
            for kind, few in teacher.draws(given.samples, seed):
                for what, value in teacher.measured(few, seed).items():
                    figures.setdefault(f"{teacher.title}: {kind}: {what}", {})[seed] = value
            print(f"{name}: seed {seed}", file=sys.stderr, flush=True)
        rows += [over_seeds(what, "share", values) for what, values in figures.items()]
    show(rows, as_json=given.json, output=given.output)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher, its test logits, and what it was trained on.

    Attributes:
        title: Set and imbalance.
        sources: Classifier and images.
        tail: The images that it was trained on, and how they are imbalanced; None where all classes were alike.
        logits: Of the test images.
    """

    title: str
    sources: Sources
    tail: tuple[Samples, float] | None
    logits: np.ndarray

    @classmethod
    def of(cls, name: str) -> Teacher:
        """`NAME:IMBALANCE:STEPS`, trained first where it is not there, or `NAME`."""
        config, *tailed = name.split(":")
        if not tailed:
            sources = _sources(config)
            logits = logits_of(sources.classifier, sources.test)
            return cls(title=f"{config}: balanced", sources=sources, tail=None, logits=logits)
        imbalance, steps = tailed
        trained = Tailed(config, float(imbalance), int(steps))
        sources = _sources(config, weights=trained.weights)
        images = load_samples(
            trained.images,
            sources.plan.model.input,
            classes=sources.labels,
            split="train",
            max_unreadable=0,
            group=None,
            progress=Silent(),
        )
        logits = logits_of(sources.classifier, sources.test)
        return cls(
            title=f"{config}: imbalance {imbalance}", sources=sources, tail=(images, float(imbalance)), logits=logits
        )

    def draws(self, samples: int, seed: int) -> Iterator[tuple[str, Samples]]:
        """Few samples by how they were drawn."""
        if self.tail is not None:
            images, imbalance = self.tail
            drawn = draw_few(images, total=samples, imbalance=imbalance, seed=seed, order=images.classes)
            yield "few of the tail", drawn
        yield "own few", draw_few(self.sources.train, total=samples, imbalance=FEW_IMBALANCE, seed=seed)

    def measured(self, few: Samples, seed: int) -> Mapping[str, float]:
        """Accuracies as they are, what each way adds, and how often the estimate is used."""
        labels = self.sources.test.labels
        before = accuracies(self.logits, labels)
        found = {f"as given: {measure}": value for measure, value in before.items()}
        for way, shift in self._shifts(few, seed):
            after = accuracies(self.logits + shift, labels)
            found |= {f"{way}: {measure}": after[measure] - before[measure] for measure in before}
            if way == "estimate":
                found["estimate: used"] = float(np.any(shift))
        return found

    def _shifts(self, few: Samples, seed: int) -> Iterator[tuple[str, np.ndarray]]:
        spec, none = self.sources.plan.model.input, np.zeros(len(few.classes))
        if self.tail is not None:
            yield "counts", logit_shift(self.tail[0].counts, strength=1.0)
        yield "few", logit_shift(few.counts, strength=1.0)
        weight = head_of(self.sources.classifier.module, spec)
        if weight is None:
            raise SystemExit(f"{self.title}: no linear layer gives the logits")
        estimate = estimated_with(self._run, weight, few, spec, seed=seed)
        shift = logit_shift(estimate.counts, strength=1.0)
        yield "estimate", shift if estimate.used else none
        yield "rows", shift
        generator = torch.Generator().manual_seed(seed)
        chances = torch.as_tensor(balanced_chances(few.labels))
        drawn = torch.multinomial(chances, VIEWS, replacement=True, generator=generator).numpy()
        views = changed(to_tensor(few.pixels[drawn], spec), generator, noise=0.0)
        logits = np.concatenate([self._run(batch) for batch in views.split(100)]).astype(np.float64)
        yield "views", _fitted(logits, few.labels[drawn])
        yield "mean", _taken_out(probabilities(logits).mean(axis=0))
        ood = _of_class_mass(probabilities(logits_of(self.sources.classifier, _ood(self.sources, seed)).astype(float)))
        yield "ood", _taken_out(ood)
        blank = torch.zeros(1, spec.channels, spec.height, spec.width)
        yield "blank", _taken_out(probabilities(self._run(blank).astype(np.float64))[0])

    @property
    def _run(self) -> Callable[[torch.Tensor], np.ndarray]:
        module = self.sources.classifier.module.eval()

        def run(batch: torch.Tensor) -> np.ndarray:
            with torch.inference_mode():
                return module(batch).numpy()

        return run


def _sources(name: str, *, seed: int = 0, weights: Path | None = None) -> Sources:
    given: list[tuple[str, object]] = [("seed", seed)]
    if weights is not None:
        given.append(("model.weights", str(weights)))
    return Sources(plan_build(read_config(config_of(name), given), accelerator=Accelerator.AUTO), Silent())


def _ood(sources: Sources, seed: int) -> Images:
    config = sources.plan.config.model_copy(update={"seed": seed})
    return Sources(plan_build(config, accelerator=Accelerator.AUTO), Silent()).ood


def _taken_out(prior: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(prior, LEAST))
    return -(logs - logs.mean())


def _fitted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The bias that maximises the likelihood of views, every class alike, with a ridge."""
    truth = np.eye(logits.shape[1])[labels]

    def loss(bias: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(logits + bias, axis=1)
        value = -(truth * logs).sum(axis=1).mean() + RIDGE * bias @ bias
        return value, (np.exp(logs) - truth).mean(axis=0) + 2 * RIDGE * bias

    return minimize(loss, np.zeros(logits.shape[1]), jac=True, method="L-BFGS-B").x


def _of_class_mass(given: np.ndarray) -> np.ndarray:
    """The class frequencies of images under which a teacher without a prior would say what it says of them."""
    mass = np.full(given.shape[1], 1 / given.shape[1])
    for _ in range(ROUNDS):
        joint = given * mass
        mass = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    return mass


if __name__ == "__main__":
    main()
