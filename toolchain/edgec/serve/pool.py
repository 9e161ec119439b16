"""A bounded queue and the threads that run the model: what does not fit is refused, what was taken is answered.

A request fails alone. A batch that fails is run again one request at a time; a request with many images is run in
slices, with those of others between them; and what is large or costly to read, an image of many pixels or long JSON,
is read in a process of its own with a low priority, while small requests pass it by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Generic, TypeVar, cast

import numpy as np

from edgec.core.confined import Confined
from edgec.core.errors import EdgecError
from edgec.runtime import Model
from edgec.serve.tensors import Query
from edgec.serve.turns import Turns

__all__ = ["Full", "Job", "Pool", "WorkerError"]

T = TypeVar("T")

_LOG = logging.getLogger("edgec.serve")
_LAST_RUN_S = 5.0
"""How long an inference that nobody awaits any more may keep the process from ending."""
_LEAST_IMAGES = 8
"""Images that a worker runs at once, at least, where a request has more."""
_READING_S = 10.0
"""How long the reading of one request may take."""


class Full(Exception):  # noqa: N818  # as in queue.Full
    """As many requests wait as may."""


class WorkerError(Exception):
    """A request failed by a fault of edgec's own; its traceback is in the log."""


@dataclass(kw_only=True, eq=False)
class Job(Generic[T]):
    """A request on its way through a worker.

    Attributes:
        model: What runs it: the version that was current when the request came.
        guard: Held while the model runs, where its engine takes one thread at a time.
        read: Makes its input. Called in a worker; where it is read apart, in another process: it can be pickled.
        write: Makes its answer from the scores and what was read. Called in the worker.
        client: Who asks.
        apart: Whether it is read in a process of its own.
        done: What the request awaits.
        query: What was read.
        scores: Of the images that were run so far.
    """

    model: Model
    guard: AbstractContextManager[object]
    read: Callable[[], Query]
    write: Callable[[np.ndarray, Query], T]
    client: str = ""
    apart: bool = False
    done: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    query: Query | None = None
    scores: list[np.ndarray] = field(default_factory=list)

    @property
    def images(self) -> int:
        """All of its images, once it was read."""
        return len(cast("Query", self.query).tensor)

    @property
    def rest(self) -> np.ndarray:
        """The images that were not run yet, once it was read."""
        tensor = cast("Query", self.query).tensor
        return tensor[sum(map(len, self.scores)) :]


class Pool:
    """Threads that run jobs, each client's in its turn; belongs to one event loop.

    Args:
        workers: Threads.
        waiting: Jobs that may wait.
        batch: Most jobs that a worker runs together; it never waits for more to come.
        reading_bytes: Memory of the process that reads what is large.
    """

    def __init__(self, *, workers: int, waiting: int, batch: int, reading_bytes: int) -> None:
        self._waiting = waiting
        self._batch = batch
        self._unread: Turns[Job] = Turns()
        self._ready: Turns[Job] = Turns()
        self._reader = Confined(memory_bytes=reading_bytes)
        self._loop = asyncio.get_running_loop()
        self._under_way = 0
        self._threads = [Thread(target=self._work, name="edgec-worker", daemon=True) for _ in range(workers)]
        self._threads.append(Thread(target=self._read_apart, name="edgec-reader", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Jobs that wait for a worker."""
        return len(self._ready) + len(self._unread)

    def require_room(self) -> None:
        """Lets another job come.

        Raises:
            Full: As many wait as may.
        """
        if self.depth >= self._waiting:
            raise Full

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
            self.require_room()
            queue = self._unread if job.apart else self._ready
            queue.put(job, client=job.client)
            try:
                return await job.done
            except asyncio.CancelledError:  # nobody awaits it any more: its body is not kept until its turn comes
                queue.discard(job, client=job.client)
                raise
        finally:
            self._under_way -= 1
            del job  # the error's traceback has this frame, and would keep the body

    def close(self) -> None:
        """Ends the threads; called once nobody awaits a job any more."""
        self._unread.end()
        self._ready.end()
        self._reader.close()
        for thread in self._threads:
            thread.join(_LAST_RUN_S)

    def _read_apart(self) -> None:
        while self._read_next():  # which keeps no body while it waits for the next
            pass

    def _read_next(self) -> bool:
        """False at the end."""
        jobs = self._unread.take(1)
        for job in jobs:
            if job.done.done():  # its client went away
                continue
            query = _attempt(partial(self._reader.call, job.read, seconds=_READING_S))
            if isinstance(query, (EdgecError, WorkerError)):
                self._loop.call_soon_threadsafe(_deliver, [(job, query)])
            else:
                job.query = query
                self._ready.put(job, client=job.client)
        return bool(jobs)

    def _work(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """False at the end."""
        jobs = self._ready.take(self._batch)
        if not jobs:
            return False
        outcomes = _step(jobs, images=max(self._batch, _LEAST_IMAGES))
        self._loop.call_soon_threadsafe(_deliver, outcomes)
        ended = {id(job) for job, _ in outcomes}
        for job in jobs:
            if id(job) not in ended and not job.done.done():
                self._ready.put(job, client=job.client)
        return True


def _deliver(outcomes: Sequence[tuple[Job, object]]) -> None:
    for job, outcome in outcomes:
        if job.done.done():  # its client went away
            continue
        if isinstance(outcome, (EdgecError, WorkerError)):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)


def _now(job: Job[T]) -> T:
    while not (outcomes := _step([job], images=_LEAST_IMAGES)):
        pass
    ((_, outcome),) = outcomes
    if isinstance(outcome, (EdgecError, WorkerError)):
        raise outcome
    return cast("T", outcome)


def _step(jobs: Sequence[Job], *, images: int) -> list[tuple[Job, object]]:
    """Reads and runs jobs, so many images of all of them together; those that are through, with what became of them."""
    outcomes: list[tuple[Job, object]] = []
    running: list[Job] = []
    for job in jobs:
        query = job.query or _attempt(job.read)
        if isinstance(query, (EdgecError, WorkerError)):
            outcomes.append((job, query))
        else:
            job.query = query
            running.append(job)
    fair = images if sum(len(job.rest) for job in running) <= images else max(1, images // len(running))
    for group in _by_model([job for job in running if len(job.rest)]):
        for job, scores in zip(group, _scores(group, [job.rest[:fair] for job in group]), strict=True):
            if isinstance(scores, (EdgecError, WorkerError)):
                outcomes.append((job, scores))
                running.remove(job)
            else:
                job.scores.append(scores)
    return outcomes + _answers([job for job in running if not len(job.rest)])


def _answers(jobs: Sequence[Job]) -> list[tuple[Job, object]]:
    """The answers of jobs that were run: all short ones, and one that is long; other long ones in later turns."""
    short = [job for job in jobs if job.images <= _LEAST_IMAGES]
    long = [job for job in jobs if job.images > _LEAST_IMAGES]
    return [(job, _attempt(partial(_written, job))) for job in (*short, *long[:1])]


def _written(job: Job) -> object:
    scores = job.scores[0] if len(job.scores) == 1 else np.concatenate(job.scores)
    return job.write(scores, cast("Query", job.query))


def _by_model(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that one call can run: two versions live side by side while they are switched."""
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(id(job.model), []).append(job)
    return list(groups.values())


def _scores(jobs: Sequence[Job], parts: Sequence[np.ndarray]) -> Sequence[np.ndarray | EdgecError | WorkerError]:
    """Scores of each part, or why there are none: a part that fails takes no other with it."""
    together = _attempt(lambda: _run(jobs[0], [_fed(jobs[0], part) for part in parts]))
    if isinstance(together, (EdgecError, WorkerError)):
        if len(jobs) == 1:
            return [together]
        return [_scores([job], [part])[0] for job, part in zip(jobs, parts, strict=True)]
    if len(parts) == 1:
        return [together]
    return np.split(together, np.cumsum([len(part) for part in parts])[:-1])


def _fed(job: Job, part: np.ndarray) -> np.ndarray:
    return job.model.session.feed(part) if part.dtype == np.uint8 else part


def _run(job: Job, parts: Sequence[np.ndarray]) -> np.ndarray:
    with job.guard:
        return job.model.predict(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _attempt(action: Callable[[], T]) -> T | EdgecError | WorkerError:
    """What it gives, or why it fails; a fault of edgec's own ends neither the thread nor another's request."""
    try:
        return action()
    except EdgecError as error:
        return error
    except Exception:  # noqa: BLE001  # logged
        _LOG.exception("a request failed")
        return WorkerError()
