"""What the teacher and the shipped file make of corrupted images, and of images of nothing that they know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.evaluate.corruptions import FAMILIES, corruption_measurements
from edgec.evaluate.rejection import rejection_measurement
from edgec.learn.config import Operation
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.student_view import operations_of

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

__all__ = ["RunningModel", "kinds_by_training", "robustness_measurements", "unseen_ood"]

_BATCH = 256
_FAMILY: Mapping[Operation, str] = {"gaussian_noise": "noise", "gaussian_blur": "blur"}
"""Families of tested kinds that operations of the training are of."""


@dataclass(frozen=True, kw_only=True)
class RunningModel:
    """A model of the build.

    Attributes:
        run: Pixels to logits.
        where: The runtime and machine that it is run by.
    """

    run: Callable[[UInt8[np.ndarray, "n h w c"]], Float[np.ndarray, "n class"]]
    where: str


def robustness_measurements(
    sources: Sources, images: Prepared, models: Callable[[], Mapping[Stage, RunningModel]]
) -> tuple[list[Measurement], list[str]]:
    """What `[evaluate]` asks for, and notes on what it could not have.

    Args:
        sources: Settings and test images.
        images: The few samples and the pool, which unseen_ood must not be of.
        models: Opens the models; not called where nothing is asked for.

    Raises:
        DataError: The out-of-distribution images cannot be read.
    """
    wanted, rows, notes = sources.plan.config.evaluate, list[Measurement](), list[str]()
    operations = operations_of(sources.plan.config, compresses=sources.plan.compresses)
    groups = kinds_by_training(operations) if operations else {}
    if operations:
        notes.append(_trained_on(operations, groups, tested=bool(wanted.corrupted), deck=sources.plan.is_deck))
    runners = models() if wanted.corrupted or wanted.unseen_ood else {}
    if wanted.corrupted:
        chosen = sources.test.evenly(wanted.corrupted)
        for stage, model in runners.items():
            common = {"stage": stage, "where": model.where, "progress": sources.progress, "groups": groups}
            rows += corruption_measurements(model.run, chosen, chosen.labels, sources.labels, **common)
    if wanted.unseen_ood:
        foreign = unseen_ood(sources, images, wanted.unseen_ood)
        if len(foreign) < wanted.unseen_ood:
            notes.append(
                f"{len(foreign)} of {wanted.unseen_ood} out-of-distribution images were left that nothing learned "
                "from: whether confidence tells them apart was measured on those"
            )
        for stage, model in runners.items() if len(foreign) else ():
            known, unknown = (_logits(model, part) for part in (sources.test, foreign))
            rows.append(rejection_measurement(known, unknown, stage=stage, where=model.where))
    return rows, notes


def kinds_by_training(operations: Sequence[Operation]) -> dict[str, tuple[str, ...]]:
    """The tested kinds of corruption by what the student was trained on; groups that have any.

    `seen` are operations of the training themselves, `related` other kinds of their family, `unseen` are of families
    that nothing was trained on. AugMix shares no operation with any.
    """
    families = {_FAMILY[operation] for operation in operations if operation in _FAMILY}
    groups = dict[str, list[str]]()
    for family, kinds in FAMILIES.items():
        for kind in kinds:
            group = "seen" if kind in operations else "related" if family in families else "unseen"
            groups.setdefault(group, []).append(kind)
    return {group: tuple(groups[group]) for group in ("seen", "related", "unseen") if group in groups}


def _trained_on(
    operations: Sequence[Operation], groups: Mapping[str, Sequence[str]], *, tested: bool, deck: bool
) -> str:
    """What robust recovery was trained on, and which tested kinds say what it gives elsewhere."""
    who = "members of the deck" if deck else "the student"
    told = f"robust recovery: {who} saw images changed by {', '.join(map(_plain, operations))}"
    if not tested:
        return f"{told}; corrupted test images were not measured: set evaluate.corrupted"
    kinds = "; ".join(f"{group} {', '.join(map(_plain, its))}" for group, its in groups.items())
    return f"{told}; of the corruptions tested, by what was trained on: {kinds}"


def _plain(name: str) -> str:
    return "AugMix" if name == "augmix" else name.replace("_", " ")


def unseen_ood(sources: Sources, images: Prepared, count: int) -> Images:
    """Out-of-distribution images that neither recovery nor calibration saw, and that are no copies of test images."""
    from edgec.data import load_ood, purify

    plan = sources.plan
    drawn = load_ood(
        plan.data.ood,
        plan.model.input,
        count=plan.data.ood_count + 2 * count,
        seed=plan.config.seed + 1,
        max_unreadable=plan.data.max_unreadable,
        progress=Silent(),  # the pool is drawn from the same source, and was told of
    )
    pure, _ = purify(drawn, against=[images.few, images.ood, sources.test])
    return pure.take(np.arange(min(count, len(pure))))


def _logits(model: RunningModel, images: Images) -> Float[np.ndarray, "n class"]:
    return np.concatenate([model.run(batch) for batch in images.batches(_BATCH)])
