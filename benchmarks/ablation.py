"""What each part of the recovery brings: how well a student agrees with its teacher on images that nobody learned from.

    python benchmarks/ablation.py cifar10-resnet20 --output benchmarks/results/ablation.json      every candidate
    python benchmarks/ablation.py cifar10-resnet56 --only default       one of them
    python benchmarks/ablation.py cifar10-resnet20 --set compress.oefsmc.widths=even ...     one of your own

The defaults of `[compress.oefsmc]` were chosen by this. No label and no test image is looked at: the measure is how far
student and teacher agree on 2,000 training images that were not drawn, and on as many out-of-distribution images
outside the pool: the share to which they give the same class (mean over the teacher's classes that have ten images and
more; the worst of them), and the divergence of their outputs.
With --output every seed of a candidate is kept when it is finished; one that is there is not run again. First: python
benchmarks/unpack_mosaics.py; for TrashNet and Fashion-MNIST train_trashnet.py or train_fashion.py as well.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from edgec.cli.build import parse_setting
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.data import load_ood
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.compress import compressed
from rows import arguments, kept, over_seeds, record, show

CONFIGS = Path(__file__).parent / "configs"
UNSEEN = 2000
OURS = "compress.oefsmc"
RECOVERY = f"{OURS}.recovery"
CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "even widths": {f"{OURS}.widths": "even"},
    "features alone": {f"{RECOVERY}.between_weight": 0.0},
    "features and logits alone": {f"{RECOVERY}.between_weight": 0.0, f"{RECOVERY}.logit_weight": 0.05},
    "maps between x 3": {f"{RECOVERY}.between_weight": 3.0},
    "maps between x 30": {f"{RECOVERY}.between_weight": 30.0},
    "logits x 0.05": {f"{RECOVERY}.logit_weight": 0.05},
    "logits x 0.2": {f"{RECOVERY}.logit_weight": 0.2},
    "no blending": {f"{RECOVERY}.mix": "off"},
    "blending across the batch": {f"{RECOVERY}.mix": "across"},
    "constant share of OOD images": {f"{RECOVERY}.ood_share": "constant"},
    "few samples alone": {"compress.variant": "few"},
    "natural draws": {f"{OURS}.draws": "natural"},
    "labelled OOD images alone": {f"{OURS}.distill_on": "auxiliary"},
    "peak rate 0.2": {f"{RECOVERY}.learning_rate": 0.2},
    "rate in steps": {f"{RECOVERY}.schedule": "steps"},
    "Taylor importance": {f"{OURS}.importance": "taylor"},
    "fine-tuning, eq. 9": {f"{OURS}.parts": ("compression", "finetuning")},
    "as in the paper": {f"{OURS}.like": "paper"},
    "plain": {"compress.variant": "plain"},
    **{
        f"plain, peak rate {rate:g}, {schedule}": {
            "compress.variant": "plain",
            "compress.mir.learning_rate": rate,
            "compress.mir.schedule": schedule,
        }
        for rate in (0.05, 0.1, 0.2, 0.4)
        for schedule in ("steps", "one-cycle")
    },
}
"""By what the table calls them; the plain method also with other rates than its paper's, so that it is no strawman."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="CANDIDATE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one candidate of your own")
    given = parser.parse_args()
    own = dict(parse_setting(text) for text in given.set)
    candidates = {" ".join(given.set): own} if own else {name: CANDIDATES[name] for name in given.only}
    steps = 20 if given.quick else given.steps
    figures: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for seed in given.seeds[: 1 if given.quick else None]:
        there = kept(given.output) if given.output else {}
        for name, settings in candidates.items():
            title = f"{given.config}: {steps} steps: {name}"
            if seed in there.get(f"{title}: agreement", {}):
                continue
            found = _measured(given.config, {"compress.steps": steps, "seed": seed, **settings})
            told = [over_seeds(f"{title}: {what}", unit, {seed: value}) for (what, unit), value in found.items()]
            for row in told:
                figures[row.what, row.unit][seed] = row.value
                print(f"seed {seed}, {row.what} {row.value:.3f}", file=sys.stderr)
            if given.output:
                record(told, given.output)
    show([over_seeds(*named, values) for named, values in figures.items()], as_json=given.json)


def _measured(config: str, settings: dict[str, Any]) -> dict[tuple[str, str], float]:
    """By what and unit."""
    plan = plan_build(read_config(CONFIGS / f"{config}.toml", list(settings.items())), accelerator=Accelerator.AUTO)
    sources = Sources(plan, Silent())
    with tempfile.TemporaryDirectory() as folder:
        data.run(sources, Path(folder))
        images = data.read(Path(folder), sources.plan)
    started = time.perf_counter()
    student = compressed(sources, images, variant=plan.config.compress.variant)
    found = {("compression", "s"): time.perf_counter() - started}
    spec, given = plan.model.input, plan.data
    ood = load_ood(given.ood, spec, count=UNSEEN + 2 * given.ood_count, seed=10_000, progress=Silent())
    for where, unseen in {"": _without(sources.train, images.few), ", OOD": _without(ood, images.ood)}.items():
        found |= {(f"{what}{where}", unit): v for (what, unit), v in _agreement(student, sources.classifier, unseen)}
    return found


def _without(images: Images, seen: Images) -> Images:
    """At most `UNSEEN` of the images, at random, none of them among those that were learned from."""
    taken = set(seen.digests)
    order = np.random.default_rng(10_000).permutation(len(images))
    return images.take(np.array([i for i in order if images.digests[i] not in taken][:UNSEEN]))


def _agreement(student: Classifier, teacher: Classifier, images: Images) -> Iterator[tuple[tuple[str, str], float]]:
    got, wanted = (log_softmax(logits_of(net, images).astype(float), axis=1) for net in (student, teacher))
    same, by_teacher = got.argmax(1) == wanted.argmax(1), wanted.argmax(1)
    shares = [same[by_teacher == c].mean() for c in np.unique(by_teacher) if (by_teacher == c).sum() >= 10]
    yield ("agreement", "share"), float(np.mean(shares))
    yield ("worst class", "share"), float(np.min(shares))
    yield ("divergence", "nat"), float((np.exp(wanted) * (wanted - got)).sum(1).mean())


if __name__ == "__main__":
    main()
