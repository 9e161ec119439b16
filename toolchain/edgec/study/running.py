"""What running a study needs whatever it is about: runs to make, the time that is left, where it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from edgec.core.files import require_writable
from edgec.core.host import describe_host
from edgec.core.progress import Progress
from edgec.pipeline.store import Store
from edgec.study.pool import Job, Pool
from edgec.study.runs import Hands, Open, OutcomeT, RunT, Titled
from edgec.study.schedule import Durations

if TYPE_CHECKING:
    import torch

__all__ = ["NotesOnce", "Ran", "describe_place", "format_duration", "missing", "run_all"]


@dataclass(frozen=True, kw_only=True)
class Ran(Generic[OutcomeT]):
    """What came of a study's runs.

    Attributes:
        outcomes: One for each run, in order.
        cached: Runs whose results lay there already.
        seconds: How long it took, this time.
    """

    outcomes: tuple[OutcomeT, ...]
    cached: int
    seconds: float


def run_all(
    runs: Sequence[RunT],
    hands: Hands[RunT, OutcomeT],
    store: Store,
    progress: Progress,
    *,
    open_: Open,
    workers: int,
) -> Ran[OutcomeT]:
    """Makes every run that no cache holds; one that is killed leaves nothing, and is made again.

    Args:
        runs: In the order in which one process makes them; for several see `study.schedule`.
        hands: Make them.
        store: Keeps results.
        progress: Told of every run.
        open_: Gives other processes such hands.
        workers: Processes that make runs.

    Raises:
        EdgecError: A run raised it, or see `Pool.make`.
    """
    started = time.perf_counter()
    todo = missing(runs, store, progress)
    if todo:
        hands.prepare()
    begun = _Begun(len(todo), progress)
    with store.used_by(hands.title, (run.key for run in runs)):
        if min(workers, len(todo)) > 1:
            _make_in_processes(runs, todo, store, begun, open_=open_, workers=min(workers, len(todo)))
        else:
            for run in todo:
                begun(run)
                hands.make(run)
                begun.done += 1
        outcomes = tuple(hands.make(run) for run in runs)
    return Ran(outcomes=outcomes, cached=len(runs) - len(todo), seconds=time.perf_counter() - started)


def _make_in_processes(
    runs: Sequence[RunT], todo: Sequence[RunT], store: Store, begun: _Begun, *, open_: Open, workers: int
) -> None:
    """Makes runs in a pool, which shares this process's threads. Shared caches are this process's alone."""
    import torch

    durations = Durations()
    for run in runs:
        if (seconds := store.seconds(run.key)) is not None:
            durations.note(run, seconds)
    for key in {key.key: key for run in todo for key in run.before}.values():
        store.brings(key)
    job = Job(open=open_, folder=store.folder, threads=max(1, torch.get_num_threads() // workers))
    pool = Pool[RunT](job=job, workers=workers, durations=durations, begin=begun, progress=NotesOnce(begun.progress))
    for run in pool.make(todo):
        begun.done += 1
        durations.note(run, store.seconds(run.key) or 0.0)
        store.share((run.key, *run.before))


class _Begun:
    """Tells of every run that begins, with the time that is left once there is one to judge by."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.done = 0
        self.progress, self._total = progress, total
        self._begun, self._started = 0, time.perf_counter()

    def __call__(self, run: Titled) -> None:
        """A line that names the run."""
        self._begun += 1
        each = (time.perf_counter() - self._started) / max(self.done, 1)
        left = f" (about {format_duration(each * (self._total - self.done))} left)" if self.done else ""
        self.progress.stage(f"{run.title}{left}", number=self._begun, total=self._total, cached=False)


class NotesOnce:
    """Passes every note on once: what is true of all draws of a study need not be said for each."""

    def __init__(self, progress: Progress) -> None:
        self.stage = progress.stage
        self.track = progress.track
        self._note = progress.note
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """A line that was not there yet."""
        if text not in self._said:
            self._said.add(text)
            self._note(text)


def missing(runs: Sequence[RunT], store: Store, progress: Progress) -> list[RunT]:
    """The runs whose results no cache holds; of the others a note says how many there are.

    Raises:
        ConfigError: The store cannot be written to.
    """
    require_writable(store.folder / "any")
    found = [run for run in runs if not store.brings(run.key)]
    if len(found) < len(runs):
        progress.note(f"{len(runs) - len(found)} of {len(runs)} runs lie in the cache")
    return found


def format_duration(seconds: float) -> str:
    """`40 s`, `7 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def describe_place(device: torch.device) -> str:
    """The machine, after its GPU where that is used."""
    if device.type != "cuda":
        return describe_host()
    import torch

    return f"{torch.cuda.get_device_name(device)}, {describe_host()}"
