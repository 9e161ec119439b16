"""How long a candidate takes on the device, as a share of the teacher: predicted, or measured where it is this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.bench.latency import measure_in_turns
from edgec.core.errors import UnsupportedError
from edgec.core.measurement import Kind, Stage
from edgec.core.samples import Images
from edgec.core.target import Target
from edgec.pipeline.sources import Sources
from edgec.pipeline.speed import with_teacher

__all__ = ["Clock", "Timing", "clock", "require_timeable"]

_SECONDS = 3.0
"""Of measuring a candidate beside the teacher."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one image takes.

    Attributes:
        latency_ms: The median.
        share: Of what the teacher takes in float; of measured times, those of the same moment.
    """

    latency_ms: float
    share: float


class Clock:
    """Times graphs against the teacher's.

    Attributes:
        kind: Whether it predicts or measures.
    """

    def __init__(self, sources: Sources, teacher: Path) -> None:
        self._sources, self._teacher = sources, teacher
        self.kind = Kind.MEASURED if sources.plan.target.family == "host" else Kind.PREDICTED

    def __call__(self, model: Path, images: Images) -> Timing:
        """Times a graph; `images` to run it on."""
        return self._predicted(model) if self.kind is Kind.PREDICTED else self._measured(model, images)

    def _predicted(self, model: Path) -> Timing:
        from edgec.latency.roofline import predict_latency

        before, after = (predict_latency(graph, self._sources.plan.target) for graph in (self._teacher, model))
        return Timing(latency_ms=after.latency_ms, share=after.latency_ms / before.latency_ms)

    def _measured(self, model: Path, images: Images) -> Timing:
        sessions = [self._sources.session(graph) for graph in (self._teacher, model)]
        tensor = sessions[0].feed(images.pixels[np.arange(1)])
        runs = [(lambda session=session: session.logits(tensor)) for session in sessions]
        before, after = (turns.latency.p50.value_ms for turns in measure_in_turns(runs, max_seconds=_SECONDS))
        return Timing(latency_ms=after, share=after / before)


def require_timeable(target: Target) -> None:
    """Refuses a device of which there is nothing to time by.

    Raises:
        UnsupportedError: The target is another machine, and nothing is known of its speed.
    """
    if target.family != "host" and target.compute is None:
        raise UnsupportedError(
            f"target '{target.name}' has no compute figures, so candidates cannot be timed",
            hint="fit a profile on the device: edgec targets fit",
        )


@contextmanager
def clock(sources: Sources) -> Iterator[Clock]:
    """A clock for the target of a plan, and the teacher's graph while the block lasts."""
    with with_teacher(sources, {}) as graphs:
        yield Clock(sources, graphs[Stage.TEACHER])
