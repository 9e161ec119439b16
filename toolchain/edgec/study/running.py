"""What running a study needs whatever it is about: runs to make, the time that is left, where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from edgec.core.files import require_writable
from edgec.core.host import describe_host
from edgec.core.progress import Progress
from edgec.pipeline.store import StageKey, Store

if TYPE_CHECKING:
    import torch

__all__ = ["NotesOnce", "Ran", "Titled", "announced", "describe_place", "format_duration", "missing", "run_all"]


class Titled(Protocol):
    """A run of any study."""

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def key(self) -> StageKey:
        """What its result is stored under."""
        ...


RunT = TypeVar("RunT", bound=Titled)
T = TypeVar("T")
OutcomeT = TypeVar("OutcomeT")


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
    store: Store,
    progress: Progress,
    *,
    title: str,
    prepare: Callable[[], None],
    make: Callable[[RunT], OutcomeT],
) -> Ran[OutcomeT]:
    """Makes every run that the store does not hold; one that is killed leaves nothing, and is made again.

    Args:
        runs: In the order in which they are made.
        store: Keeps results.
        progress: Told of every run.
        title: Of the study, for who asks later what an entry of the store belongs to.
        prepare: Fails before anything is made where something would not do; not called where all runs are there.
        make: The outcome of a run, from the store where it is there.
    """
    started = time.perf_counter()
    todo = missing(runs, store, progress)
    if todo:
        prepare()
    with store.used_by(title, (run.key for run in runs)):
        for run in announced(todo, progress):
            make(run)
        outcomes = tuple(make(run) for run in runs)
    return Ran(outcomes=outcomes, cached=len(runs) - len(todo), seconds=time.perf_counter() - started)


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


def announced(runs: Sequence[RunT], progress: Progress) -> Iterator[RunT]:
    """Every run behind a line that names it, with the time that is left once there is one to judge by."""
    for number, (run, left) in enumerate(_timed(runs), 1):
        progress.stage(f"{run.title}{left}", number=number, total=len(runs), cached=False)
        yield run


def _timed(items: Sequence[T]) -> Iterator[tuple[T, str]]:
    started = time.perf_counter()
    for done, item in enumerate(items):
        each = (time.perf_counter() - started) / max(done, 1)
        yield item, f" (about {format_duration(each * (len(items) - done))} left)" if done else ""


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
