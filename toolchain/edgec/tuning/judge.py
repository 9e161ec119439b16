"""How good a candidate is, without labels and without test images: how often it agrees with the teacher, by class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from edgec.core.errors import DataError
from edgec.core.frozen import Frozen
from edgec.core.wording import join_names
from edgec.pipeline.confidence import logits_through, shift_of, views_through
from edgec.pipeline.graphs import Graphs
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.runner import Runner
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data, deck
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

__all__ = ["Judgement", "judge", "key", "unjudged"]

READS = (*MODEL_SETTINGS, "target", "accelerator", "config.export", "config.seed")


class Judgement(Frozen):
    """Agreement with the teacher.

    Attributes:
        agreement: Share of each class's images to which the file that ships gives the teacher's class; classes without
            images have none.
        images: How many there are.
    """

    agreement: Mapping[str, float]
    images: int


def key(plan: Plan) -> StageKey:
    """Of the judgement."""
    return plan.key("judge", READS, opens=("model", "prior"), after=(data.key(plan), deck.shipped_key(plan)))


def unjudged(images: Prepared) -> str | None:
    """Which classes have no image to be judged on, for people; None where every class has one.

    Raises:
        DataError: Validation images lack a class: it could be lost without a trace.
    """
    by = images.few if images.validation is None else images.validation
    missing = [by.classes[position] for position in np.flatnonzero(by.counts == 0)]
    if not missing:
        return None
    named = join_names([f"'{name}'" for name in missing], most=5)
    if images.validation is not None:
        raise DataError(f"{by.source}: no image of {named}", hint="give validation images of every class")
    return f"no candidate is judged on {named}: the few samples have none"


def judge(run: Runner, images: Prepared, graphs: Graphs) -> Judgement:
    """Shows the teacher and the file that ships the same images, and compares their classes.

    These are the validation images; where there are none, the few samples, strongly changed: the student learned from
    them, so that it would agree on them as they are. These views are those to which the temperature is fitted
    (`learn.temperature`); here all count alike.
    """
    make = partial(_judged, images=images, model=graphs.model, trained_on=graphs.export.facts.trained_on)
    return run(key(run.sources.plan), Judgement, make).facts


def _judged(
    sources: Sources, folder: Path, *, images: Prepared, model: Path, trained_on: tuple[int, ...] | None
) -> Judgement:
    del folder  # all of it is in the facts
    shift, shipped = shift_of(sources, trained_on), sources.shipped_session(model)
    if images.validation is None:
        views = views_through(sources, images, shipped, shift=shift)
        labels, first, second = views.labels, views.teacher, views.student
    else:
        first, second = logits_through(sources, images.validation, shipped, shift=shift)
        labels = images.validation.labels
    same = first.argmax(axis=1) == second.argmax(axis=1)
    return Judgement(
        agreement={
            label: float(same[shown].mean())
            for position, label in enumerate(images.few.classes)
            if (shown := labels == position).any()
        },
        images=len(same),
    )
