"""Stage `calibrate`: activation ranges from a set in which every class weighs what the recipe gives it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.facts import CalibrationFacts
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data, export
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

if TYPE_CHECKING:
    from edgec.calibrate import CalibrationSet
    from edgec.runtime import Session

__all__ = ["RANGES", "Facts", "calibrating", "key", "run"]

RANGES = "ranges.json"

READS = (
    *MODEL_SETTINGS,
    *("calibration", "target.quantization", "target.runtime.engine"),
    *("config.export.preprocess_in_graph", "config.seed"),
)

Facts = CalibrationFacts


def key(plan: Plan) -> StageKey:
    """Activation ranges."""
    return plan.key("calibrate", READS, opens=("model",), after=(data.key(plan), export.key(plan)))


def run(sources: Sources, folder: Path, *, images: Prepared, model: Path, cache: Path | None = None) -> Facts:
    """Writes `ranges.json`.

    Args:
        sources: Plan and progress.
        folder: Where the ranges go.
        images: Labelled images and the OOD pool.
        model: The FP32 graph.
        cache: A folder of ranges that other builds may have read; None to read them here in any case.
    """
    from edgec.calibrate import Ranges, cached_ranges, observe_ranges, ranges_key

    plan, session = sources.plan, sources.session(model)
    recipe, target = plan.calibration, plan.target
    chosen = calibrating(sources, images, session)

    def observe() -> Ranges:
        if plan.as_given:
            return Ranges(bounds={})
        return observe_ranges(model, chosen, recipe, target=target, feed=session.feed, progress=sources.progress)

    fed = {"input": plan.model.input.model_dump(mode="json"), "raw": sources.raw}
    key = ranges_key(model, chosen, recipe, target=target, fed=fed)
    ranges = observe() if cache is None else cached_ranges(cache, key, observe)
    (folder / RANGES).write_text(ranges.to_json(), encoding="utf-8")
    return chosen.facts(recipe)


def calibrating(sources: Sources, images: Prepared, session: Session) -> CalibrationSet:
    """The calibration set of a plan's recipe."""
    from edgec.calibrate import calibration_set
    from edgec.learn.labels import assign_labels

    recipe, seed = sources.plan.calibration, sources.plan.config.seed
    if recipe.ood_labels == "teacher":
        labels = session.logits_of(images.ood).argmax(axis=1)
    else:
        labels = assign_labels(images.calibration.counts, len(images.ood), np.random.default_rng(seed))
    return calibration_set(images.calibration, images.ood, labels, recipe, seed=seed)
