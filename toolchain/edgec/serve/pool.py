"""A bounded queue and the threads that run the model: what does not fit is refused, what was taken is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar, cast

import numpy as np

from edgec.core.errors import EdgecError
from edgec.runtime import Model

__all__ = ["Full", "Job", "Pool", "WorkerError"]

T = TypeVar("T")

_LAST_RUN_S = 5.0
"""How long an inference that nobody awaits any more may keep the process from ending."""


class Full(Exception):  # noqa: N818  # as in queue.Full
    """As many requests wait as may."""


class WorkerError(Exception):
    """A worker ended by a fault of edgec's own; its traceback is in the log."""


@dataclass(kw_only=True, eq=False)
class Job(Generic[T]):
    """A request on its way through a worker.

    Attributes:
        model: What runs it: the version that was current when the request came.
        guard: Held while the model runs, where its engine takes one thread at a time.
        read: Makes its input: uint8 or prepared float32, as `Model.predict` takes it. Called in the worker.
        write: Makes its answer from the scores. Likewise.
        done: What the request awaits.
    """

    model: Model
    guard: AbstractContextManager[object]
    read: Callable[[], np.ndarray]
    write: Callable[[np.ndarray], T]
    done: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pool:
    """Threads that run jobs, oldest first; belongs to one event loop.

    Args:
        workers: Threads.
        waiting: Jobs that may wait.
        batch: Most jobs that a worker runs together; it never waits for more to come.
    """

    def __init__(self, *, workers: int, waiting: int, batch: int) -> None:
        self._waiting = waiting
        self._batch = batch
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._under_way = 0
        self._threads: list[Thread] = []
        for _ in range(workers):
            self._hire()

    @property
    def depth(self) -> int:
        """Jobs that wait for a worker."""
        return self._jobs.qsize()

    async def run(self, job: Job[T], *, brief: bool = False) -> T:
        """What `job.write` made of the scores.

        Args:
            job: What to run.
            brief: Whether it takes so little that, when it is alone, it is run here and now: the way to a thread and
                back would take as long. Others that come at the same time go to the threads, which run them together.

        Raises:
            Full: Too many jobs wait already.
            EdgecError: What `job.read` or the model raised.
            WorkerError: The worker failed on it otherwise.
        """
        self._under_way += 1
        try:
            if brief:
                await asyncio.sleep(0)  # those that came at the same time show themselves
                if self._under_way == 1:
                    return _now(job)
            if self._jobs.qsize() >= self._waiting:
                raise Full
            self._jobs.put(job)
            return await job.done
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Ends the threads; called once nobody awaits a job any more."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_LAST_RUN_S)

    def _hire(self) -> None:
        thread = Thread(target=self._work, name="edgec-worker", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while jobs := self._take():
            outcomes: Sequence[object] = [WorkerError()] * len(jobs)
            failed = True
            try:
                outcomes = _answer(jobs)
                failed = False
            finally:  # a fault ends this thread and is logged as such; nobody waits in vain, and another takes over
                self._loop.call_soon_threadsafe(self._deliver, jobs, outcomes, failed)

    def _take(self) -> list[Job]:
        """The jobs that wait, as many as run together; none when it is time to go."""
        first = self._jobs.get()
        if first is None:
            return []
        taken = [first]
        while len(taken) < self._batch:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:  # the sign to go, which is for the next round
                self._jobs.put(None)
                break
            taken.append(job)
        return taken

    def _deliver(self, jobs: Sequence[Job], outcomes: Sequence[object], failed: bool) -> None:  # noqa: FBT001  # by the loop
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.done.done():  # its client went away
                continue
            if isinstance(outcome, (EdgecError, WorkerError)):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)
        if failed:
            self._hire()


def _now(job: Job[T]) -> T:
    (outcome,) = _answer([job])
    if isinstance(outcome, EdgecError):
        raise outcome
    return cast("T", outcome)


def _answer(jobs: Sequence[Job]) -> list[object]:
    """Per job its answer, or why there is none."""
    outcomes: list[object] = [None] * len(jobs)
    tensors: dict[int, np.ndarray] = {}
    for i, job in enumerate(jobs):
        try:
            tensor = job.read()
            tensors[i] = job.model.session.feed(tensor) if tensor.dtype == np.uint8 else tensor
        except EdgecError as error:
            outcomes[i] = error
    for group in _by_model(jobs, tensors):
        scores = _scores(jobs[group[0]], [tensors[i] for i in group])
        for i, found in zip(group, scores, strict=True):
            outcomes[i] = found if isinstance(found, EdgecError) else jobs[i].write(found)
    return outcomes


def _by_model(jobs: Sequence[Job], tensors: dict[int, np.ndarray]) -> list[list[int]]:
    """Positions of the jobs that one call can run: two versions live side by side while they are switched."""
    groups: dict[int, list[int]] = {}
    for i in tensors:
        groups.setdefault(id(jobs[i].model), []).append(i)
    return list(groups.values())


def _scores(job: Job, tensors: Sequence[np.ndarray]) -> Sequence[np.ndarray | EdgecError]:
    """Scores of each tensor, or why there are none."""
    try:
        with job.guard:
            scores = job.model.predict(tensors[0] if len(tensors) == 1 else np.concatenate(tensors))
    except EdgecError as error:
        return [error] * len(tensors)
    if len(tensors) == 1:
        return [scores]
    return np.split(scores, np.cumsum([len(tensor) for tensor in tensors])[:-1])
