"""What the teacher and the shipped file make of corrupted images, and of images of nothing that they know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.evaluate.corruptions import corruption_measurements
from edgec.evaluate.rejection import rejection_measurement
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.data import Prepared

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

__all__ = ["RunningModel", "robustness_measurements", "unseen_ood"]

_BATCH = 256


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
    runners = models() if wanted.corrupted or wanted.unseen_ood else {}
    if wanted.corrupted:
        chosen = sources.test.evenly(wanted.corrupted)
        for stage, model in runners.items():
            common = {"stage": stage, "where": model.where, "progress": sources.progress}
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
