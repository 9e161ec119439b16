"""Which test images count in a study that draws its training images: those that the draw does not give away."""

from __future__ import annotations

from dataclasses import asdict

from edgec.core.frozen import Frozen
from edgec.core.samples import Samples
from edgec.pipeline.leaking import leaking
from edgec.pipeline.plan import Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import StageKey, Store
from edgec.study.draw import Draw

__all__ = ["held_out", "held_out_key"]


class _Tested(Frozen):
    """Positions of the test images that the training set does not give away; None where that is all of them."""

    tested: tuple[int, ...] | None


def held_out_key(stage: str, plan: Plan, draw: Draw, *, samples: int | None, seed: int) -> StageKey:
    """What it depends on which test images count."""
    settings = {
        "draw": asdict(draw),
        "samples": samples,
        "seed": seed,
        "data": plan.data.model_dump(mode="json", include={"max_unreadable", "leaks", "group"}),
        "model": plan.model.model_dump(mode="json", include={"input", "labels"}),
    }
    outside = {name: plan.digests[name] for name in ("train", "test", "tools")}
    return StageKey(stage=stage, settings=settings, sources=outside)


def held_out(key: StageKey, sources: Sources, learned: Samples, store: Store) -> Samples:
    """The test images that a training set does not give away, found now if the store does not say.

    Args:
        key: From `held_out_key`.
        sources: Test images.
        learned: The training set.
        store: Where the answer is kept.
    """

    def find(_: object) -> _Tested:
        found = leaking({"train": learned, "test": sources.test}, sources.plan.data.leaks)
        for note in found.notes:
            sources.progress.note(note)
        return _Tested(tested=None if found.tested is None else tuple(found.tested))

    return sources.tested_on(store.get(key, _Tested, find).facts.tested).test
