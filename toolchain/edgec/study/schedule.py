"""Which run of a study is next where several run at once: those that others wait for, then the longest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence

from edgec.pipeline.store import Store
from edgec.study.runs import RunT, Titled

__all__ = ["Durations", "next_run"]


class Durations:
    """How long runs take: as long as runs of the same cell took."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, list[float]] = {}

    def note(self, run: Titled, seconds: float) -> None:
        """A run took so long."""
        self._seconds.setdefault(run.cell, []).append(seconds)

    def of(self, run: Titled) -> float | None:
        """The median of those that are known; None where none is."""
        known = self._seconds.get(run.cell)
        return statistics.median(known) if known else None


def next_run(waiting: Sequence[RunT], under_way: Sequence[RunT], store: Store, durations: Durations) -> RunT | None:
    """The run to start now; None where each needs what a run under way is making.

    First come runs that make what others need, then those of which nobody knows how long they take, then the longest:
    a long run that begins last leaves the other processes idle.
    """
    made_now = {key.key for run in under_way for key in (*run.before, run.key) if not store.has_entry(key)}
    ready = [run for run in waiting if made_now.isdisjoint(key.key for key in run.before)]

    def urgency(run: RunT) -> tuple[bool, float]:
        seconds = durations.of(run)
        opens = any(not store.has_entry(key) for key in run.before)
        return opens, math.inf if seconds is None else seconds

    return max(ready, key=urgency, default=None)
