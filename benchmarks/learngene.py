"""A vision transformer with fewer layers: learngenes against layers that are picked, resampled or dropped.

    python benchmarks/learngene.py fashion-vit --output benchmarks/results/learngene.json

All begin with the same teacher, the same few samples and the same OOD images. `picked` keeps evenly spread layers,
`resampled` interpolates between neighbours, `dropped` keeps what PRACTISE's scores keep, `fitted` are learngenes as
least squares leaves them, `learned` those that learned from the teacher for --decomposition steps, once for all
depths. Each is looked at as it is (`at once`) and after --steps steps of recovery; `picked longer` recovers for the
sum of both, which is what learngenes take for a single depth. Accuracies are of --test test images, which take part in
no choice. First: python benchmarks/unpack_mosaics.py, train_fashion.py, train_vit.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgec.cli.build import parse_setting
from edgec.compress import oefsmc
from edgec.compress.blocks import residual_blocks, without_blocks
from edgec.compress.config import LearngeneConfig, OefsmcConfig, PractiseConfig
from edgec.compress.job import CompressJob
from edgec.compress.learngene import decomposed
from edgec.compress.learngenes import Learngenes
from edgec.compress.recoverability import recoverabilities
from edgec.compress.recovery import recover
from edgec.compress.sequence import layer_sequence, layers_of_depth
from edgec.core.classifier import Classifier
from edgec.core.progress import Progress, Silent
from edgec.core.registry import Registered
from edgec.core.samples import Samples
from edgec.learn.config import Budget
from edgec.models.infer import logits_of, to_tensor
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from rows import Row, arguments, kept, over_seeds, record, show

CONFIGS = Path(__file__).parent / "configs"
Figures = dict[str, dict[int, float]]
"""By what a row is called, and seed."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs")
    parser.add_argument("--samples", nargs="+", type=int, default=[50, 500])
    parser.add_argument("--depths", nargs="+", type=int, default=[6, 4, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=120, help="of recovery")
    parser.add_argument("--decomposition", type=int, default=120, help="steps that the learngenes learn in")
    parser.add_argument("--test", type=int, default=4000, help="test images, the first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all")
    given = parser.parse_args()
    settings = [parse_setting(text) for text in given.set]
    figures: Figures = kept(given.output) if given.output else {}
    for seed in given.seeds[: 1 if given.quick else None]:
        for samples in given.samples:
            title = f"{given.config}: {samples} samples"
            if seed in figures.get(f"{title}: teacher: top-1 at once", {}):
                continue
            job, test = _job(given.config, [*settings, ("data.few.total", samples), ("seed", seed)])
            test = test.choose(np.arange(given.test))
            for what, value in _measured(job, test, given.depths, given.decomposition, given.steps):
                figures.setdefault(f"{title}: {what}", {})[seed] = value
                print(f"seed {seed}, {title}: {what} {value:.4f}", file=sys.stderr, flush=True)
            if given.output:
                record(_rows(figures, title), given.output)
    titles = [f"{given.config}: {samples} samples" for samples in given.samples]
    show([row for title in titles for row in _rows(figures, title)], as_json=given.json)


def _job(config: str, settings: list[tuple[str, Any]]) -> tuple[CompressJob, Samples]:
    """What a method is given under OE-FSMC, and the test images."""
    plan = plan_build(read_config(CONFIGS / f"{config}.toml", settings), accelerator=Accelerator.AUTO)
    sources = Sources(plan, Silent())
    with tempfile.TemporaryDirectory() as folder:
        data.run(sources, Path(folder))
        images = data.read(Path(folder), plan)
    job = CompressJob(
        teacher=sources.classifier,
        few=images.few,
        budget=Budget(flip=plan.config.compress.flip, shift=plan.config.compress.shift),
        seed=plan.config.seed,
        fabric=sources.fabric,
    )
    given: list[CompressJob] = []

    def note(part: CompressJob, _: object, *, progress: Progress) -> Classifier:
        del progress
        given.append(part)
        return part.teacher

    method = Registered(name="learngene", function=note, config=LearngeneConfig)
    oefsmc.compress(job, images.ood, method, LearngeneConfig(), OefsmcConfig(), progress=Silent())
    return given[0], sources.test


def _measured(
    job: CompressJob, test: Samples, depths: Sequence[int], decomposition: int, steps: int
) -> Iterator[tuple[str, float]]:
    """Accuracies by the names of their rows, after that of the teacher."""
    example = to_tensor(job.few.first(2), job.teacher.input)
    layers = layer_sequence(job.teacher.module, example)
    yield from _accuracies("teacher", "at once", job.teacher, test)
    started = time.process_time()
    learngenes = decomposed(job, layers, LearngeneConfig(), steps=decomposition, progress=Silent())
    yield "learned: decomposition: seconds", time.process_time() - started
    scores = recoverabilities(job, residual_blocks(job.teacher.module, example), PractiseConfig(), progress=Silent())
    for depth in depths:
        dropped = sorted(scores, key=scores.__getitem__)[: len(layers) - depth]
        begun = {
            "picked": _picked(job.teacher.module, layers, depth),
            "picked longer": _picked(job.teacher.module, layers, depth),
            "resampled": _resampled(job.teacher.module, layers, depth),
            "dropped": without_blocks(job.teacher.module, dropped),
            "fitted": Learngenes.of(job.teacher.module, layers, LearngeneConfig()).recomposed(depth),
            "learned": learngenes.recomposed(depth),
        }
        for way, net in begun.items():
            what = f"depth {depth}: {way}"
            if way == "resampled" and depth == 2:
                continue  # the first layer and the last, which are those picked
            if way != "picked longer":
                yield from _accuracies(what, "at once", replace(job.teacher, module=net), test)
            if way == "fitted":
                continue
            longer = decomposition * (way == "picked longer")
            started = time.process_time()
            student = _recovered(net, job, steps + longer)
            yield f"{what}: seconds", time.process_time() - started
            yield from _accuracies(what, "recovered", replace(job.teacher, module=student), test)


def _picked(module: nn.Module, layers: Sequence[str], depth: int) -> nn.Module:
    """The layers in the places that a net of that depth has."""
    kept = layers_of_depth(layers, depth)
    return without_blocks(module, [name for name in layers if name not in kept])


@torch.no_grad()
def _resampled(module: nn.Module, layers: Sequence[str], depth: int) -> nn.Module:
    """Weights between those of two neighbours, at evenly spaced positions from the first layer to the last."""
    net = _picked(module, layers, depth)
    positions = np.linspace(0, len(layers) - 1, depth)
    for position, name in zip(positions, layers_of_depth(layers, depth), strict=True):
        before, share = int(position), position % 1
        first, second = (
            dict(module.get_submodule(layers[i]).named_parameters()) for i in (before, int(np.ceil(position)))
        )
        for key, parameter in net.get_submodule(name).named_parameters():
            parameter.copy_(torch.lerp(first[key], second[key], float(share)))
    return net


def _recovered(net: nn.Module, job: CompressJob, steps: int) -> nn.Module:
    budget = job.budget.model_copy(update={"steps": steps})
    return recover(net, replace(job, budget=budget), LearngeneConfig(), progress=Silent())


def _accuracies(what: str, when: str, net: Classifier, test: Samples) -> Iterator[tuple[str, float]]:
    right = logits_of(net, test).argmax(1) == test.labels
    classes = [right[test.labels == label].mean() for label in np.unique(test.labels)]
    yield f"{what}: top-1 {when}", float(right.mean())
    yield f"{what}: worst class {when}", float(min(classes))


def _rows(figures: Figures, title: str) -> list[Row]:
    """Every figure of one title, and how far learned ones are above others, in pairs of the same seed."""
    own = {what: values for what, values in figures.items() if what.startswith(f"{title}: ")}
    return [over_seeds(what, "s" if what.endswith("seconds") else "share", values) for what, values in own.items()]


if __name__ == "__main__":
    main()
