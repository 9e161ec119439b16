"""The graphs of a build, before anything is measured on them: the student in FP32 and the file that ships."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgec.learn.config import Robust
from edgec.pipeline.plan import Plan
from edgec.pipeline.runner import Runner
from edgec.pipeline.stages import calibrate, compress, deck, export, quantize
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import Output, StageKey

__all__ = ["Graphs", "graph_keys", "make_graphs"]


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """What the stages from compression to quantisation made; outputs are those of a deck's first member.

    Attributes:
        compress: The student; None where the model is quantised alone.
        deck: All members in one graph; None where there is one student.
    """

    compress: Output[compress.Facts] | None
    export: Output[export.Facts]
    calibrate: Output[calibrate.Facts]
    quantize: Output[quantize.Facts]
    deck: Output[deck.Facts] | None = None

    @property
    def fp32(self) -> Path:
        """The graph before quantisation."""
        return (self.deck or self.export).folder / export.FP32

    @property
    def ranges(self) -> Path:
        """What calibration found."""
        return self.calibrate.folder / calibrate.RANGES

    @property
    def model(self) -> Path:
        """The file that ships."""
        return (self.deck or self.quantize).folder / quantize.MODEL


def make_graphs(run: Runner, images: Prepared, *, few: Output[compress.Facts] | None = None) -> Graphs:
    """Compresses, exports, calibrates and quantises; of a deck every member, and joins them.

    Args:
        run: The build.
        images: The few samples and the OOD images.
        few: What our recipe made of the few samples alone, where that is known.
    """
    plan = run.sources.plan
    first = _of_one(run, images, few)
    members: dict[Robust, Graphs] = {plan.config.compress.robust: first}
    for other in plan.members[1:]:
        robust = other.config.compress.robust
        run.sources.progress.note(f"the deck's member '{robust}'")
        members[robust] = _of_one(run.varied(other), images)
    if len(members) == 1 or first.compress is None:
        return first
    join = partial(
        deck.run,
        images=images,
        members={robust: deck.Member(fp32=each.fp32, model=each.model) for robust, each in members.items()},
        ood=first.compress.facts.ood,
        trained_on=first.export.facts.trained_on,
    )
    return replace(first, deck=run.maybe(deck.key(plan), deck.Facts, join))


def _of_one(run: Runner, images: Prepared, few: Output[compress.Facts] | None = None) -> Graphs:
    """Of one student."""
    plan = run.sources.plan
    student = partial(compress.run, images=images, variant=plan.config.compress.variant, few=few and few.folder)
    ours = run.maybe(compress.key(plan), compress.Facts, student)
    graph = run(export.key(plan), export.Facts, partial(export.run, images=images, student=ours and ours.folder))
    fp32 = graph.folder / export.FP32
    read = partial(calibrate.run, images=images, model=fp32, cache=run.store.folder / "ranges")
    calibrated = run(calibrate.key(plan), calibrate.Facts, read)
    ranges = calibrated.folder / calibrate.RANGES
    int8 = run(quantize.key(plan), quantize.Facts, partial(quantize.run, images=images, model=fp32, ranges=ranges))
    return Graphs(compress=ours, export=graph, calibrate=calibrated, quantize=int8)


def graph_keys(plan: Plan) -> tuple[StageKey, ...]:
    """The stages that make the file that ships, in order; of a deck, those of every member."""
    stages = (compress.key, export.key, calibrate.key, quantize.key)
    keys = [of(member) for member in plan.members for of in stages]
    return tuple(key for key in (*keys, deck.key(plan)) if key is not None)
