"""How long a candidate takes, as a share of the teacher: predicted, measured here, or measured on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgec.bench.latency import measure_in_turns
from edgec.core.errors import TransportError, UnsupportedError
from edgec.core.host import describe_host
from edgec.core.measurement import Stage
from edgec.core.samples import Images
from edgec.core.target import Target
from edgec.pipeline.sources import Sources
from edgec.pipeline.speed import with_teacher
from edgec.runtime.timing import Timed

__all__ = ["Clock", "Stopwatch", "Timing", "clock", "machine_of", "require_timeable"]

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


Clock: TypeAlias = Callable[[Path, Images], Timing]
"""Times a graph beside the teacher's; the images are there to run it on."""
Stopwatch: TypeAlias = Callable[[Sequence[bytes]], Timed]
"""Times serialised graphs in turns on a device; without any, tells what the device is."""


def require_timeable(target: Target, there: Stopwatch | None) -> None:
    """Refuses a device by which nothing can be timed.

    Raises:
        UnsupportedError: Nothing is known of the target's speed, or a device would time something else than the target.
    """
    if there is None:
        if target.family != "host" and target.compute is None:
            raise UnsupportedError(
                f"target '{target.name}' has no compute figures, so candidates cannot be timed",
                hint="fit a profile on the device: edgec targets fit; or measure there: --device ssh://USER@HOST/PATH",
            )
    elif target.family == "host":
        raise UnsupportedError(
            "target 'host' is this machine, and candidates are to be timed on a device",
            hint="name the device's profile with --target; see: edgec targets list",
        )
    elif target.runtime.engine != "onnxruntime":
        raise UnsupportedError(
            f"candidates are timed in onnxruntime on a device, and '{target.name}' runs {target.runtime.engine}",
            hint="search without --device, which predicts, and measure the winner: edgec bench BUNDLE --device",
        )


def machine_of(target: Target, there: Stopwatch | None) -> str | None:
    """The machine on which candidates are timed, for people; None where latencies are predicted.

    Raises:
        TransportError: The device does not answer.
        UnsupportedError: It is another kind of device than the target.
    """
    if there is None:
        return describe_host() if target.family == "host" else None
    machine = there(()).machine
    found = machine.target
    same = found.architecture == target.architecture
    if same and target.family == "x86":  # with VNNI or without
        same = found.quantization.reduce_range == target.quantization.reduce_range
    if not same:
        raise UnsupportedError(
            f"the device is no '{target.name}': {machine.where}",
            hint="name its own profile with --target; edgec targets fit --device makes one",
        )
    return machine.where


@contextmanager
def clock(sources: Sources, there: Stopwatch | None = None) -> Iterator[Clock]:
    """A clock for the target of a plan, and the teacher's graph while the block lasts.

    Raises:
        TransportError: The device does not answer.
        UnsupportedError: The teacher does not run there.
    """
    with with_teacher(sources, {}) as graphs:
        teacher = graphs[Stage.TEACHER]
        if there is not None:
            try:
                there([teacher.read_bytes()])
            except UnsupportedError as error:
                raise UnsupportedError(f"the teacher, beside which candidates are timed: {error}") from error
            yield partial(_timed_there, there, teacher.read_bytes())
        elif sources.plan.target.family == "host":
            yield partial(_timed_here, sources, teacher)
        else:
            yield partial(_predicted, sources.plan.target, teacher)


def _predicted(target: Target, teacher: Path, model: Path, images: Images) -> Timing:
    from edgec.latency.roofline import predict_latency

    del images
    before, after = (predict_latency(graph, target) for graph in (teacher, model))
    return Timing(latency_ms=after.latency_ms, share=after.latency_ms / before.latency_ms)


def _timed_here(sources: Sources, teacher: Path, model: Path, images: Images) -> Timing:
    sessions = [sources.session(graph) for graph in (teacher, model)]
    tensor = sessions[0].feed(images.pixels[np.arange(1)])
    runs = [(lambda session=session: session.logits(tensor)) for session in sessions]
    before, after = (turns.latency.p50.value_ms for turns in measure_in_turns(runs, max_seconds=_SECONDS))
    return Timing(latency_ms=after, share=after / before)


def _timed_there(there: Stopwatch, teacher: bytes, model: Path, images: Images) -> Timing:
    """Where the device fails, the teacher alone tells whether the candidate is the cause."""
    del images  # the device draws an input
    try:
        before, after = there([teacher, model.read_bytes()]).times_ms
    except TransportError as failed:
        _require_alive(there, teacher)
        raise UnsupportedError(f"the device did not time it, though it times the teacher: {failed}") from failed
    return Timing(latency_ms=after, share=after / before)


def _require_alive(there: Stopwatch, teacher: bytes) -> None:
    try:
        there([teacher])
    except TransportError as lost:
        raise TransportError(
            f"{lost}", hint="finished candidates are kept: run the command again when the device answers"
        ) from lost
