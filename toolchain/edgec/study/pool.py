"""Runs of a study in several processes of this machine; the stage cache takes their results as they come."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic

from edgec.core.errors import ContractError, EdgecError, UnsupportedError
from edgec.core.progress import Progress, Silent
from edgec.pipeline.store import Store
from edgec.study.runs import Open, RunT
from edgec.study.schedule import Durations, next_run

__all__ = ["Job", "Pool"]

LOOK_S = 0.2
"""How often it is looked whether what a run waits for is there."""
END_S = 5.0
"""How long a process that was told to end may take."""
TRIES = 2
"""Of a run whose process is ended from outside."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the processes of a pool are for.

    Attributes:
        open: Makes runs. It is called in each process: a function of a module, or a partial of one.
        folder: The stage cache.
        threads: Of each process.
    """

    open: Open
    folder: Path
    threads: int


@dataclass(frozen=True)
class _Note:
    text: str


@dataclass(frozen=True)
class _Failed:
    error: EdgecError


class _Done:
    """The run is in the cache."""


@dataclass(kw_only=True)
class _Worker(Generic[RunT]):
    """A process, and the run that it is at."""

    process: BaseProcess
    pipe: Connection
    run: RunT


@dataclass(kw_only=True)
class Pool(Generic[RunT]):
    """Processes that make runs, each with model and images of its own.

    A process that is ended from outside is replaced, and its run is tried once more. A run that fails ends the study,
    as it would in one process, when the runs under way are finished.

    Attributes:
        job: What processes are for.
        workers: How many at most.
        durations: How long runs take, as far as it is known.
        begin: Is told of every run that begins.
        progress: Is told what runs have to say.
    """

    job: Job
    workers: int
    durations: Durations
    begin: Callable[[RunT], None]
    progress: Progress
    _waiting: list[RunT] = field(default_factory=list)
    _busy: list[_Worker[RunT]] = field(default_factory=list)
    _idle: list[_Worker[RunT]] = field(default_factory=list)
    _ended: Counter[str] = field(default_factory=Counter)
    _lost: list[str] = field(default_factory=list)
    _failure: EdgecError | None = None

    def make(self, runs: Sequence[RunT]) -> Iterator[RunT]:
        """Yields runs as they are finished.

        Raises:
            EdgecError: A run raised it.
            ContractError: A run ended its process by an error of edgec's own, whose traceback was printed.
            UnsupportedError: The processes of some runs were ended twice; all other runs are finished.
        """
        self._waiting = list(runs)
        try:
            while self._start_runs():
                finished = self._hear()
                self._start_runs()
                yield from finished
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure
        if self._lost:
            raise UnsupportedError(
                f"{len(self._lost)} of {len(runs)} runs were not made, first: {self._lost[0]}, {TRIES} times",
                hint="where memory is short, give fewer --workers; what is finished is kept: run the command again",
            )

    def _start_runs(self) -> bool:
        """Gives runs to processes that have none; False where nothing is left to wait for."""
        store = Store(self.job.folder)
        while self._failure is None and len(self._busy) < self.workers:
            run = next_run(self._waiting, [worker.run for worker in self._busy], store, self.durations)
            if run is None:
                break
            self._waiting.remove(run)
            self._busy.append(self._given(run))
            if not self._ended[run.key.key]:
                self.begin(run)
        return bool(self._busy)

    def _given(self, run: RunT) -> _Worker[RunT]:
        while self._idle:
            worker = self._idle.pop()
            worker.run = run
            with suppress(OSError):  # it was ended while it had nothing to do
                worker.pipe.send(run)
                return worker
            worker.pipe.close()
            worker.process.join(END_S)
        with _sigint_kept():
            near, far = get_context("spawn").Pipe()
            process = get_context("spawn").Process(target=_work, args=(far,), daemon=True)
            process.start()
            far.close()
        worker = _Worker(process=process, pipe=near, run=run)
        with suppress(OSError):  # it is gone: the next read tells
            near.send(self.job.threads)
            near.send(self.job)
            near.send(run)
        return worker

    def _hear(self) -> list[RunT]:
        """What processes have to say; the runs that they finished."""
        workers = {worker.pipe: worker for worker in self._busy}
        could_begin = self._waiting and self._failure is None and len(self._busy) < self.workers
        heard = wait(list(workers), timeout=LOOK_S if could_begin else None)
        return [worker.run for pipe, worker in workers.items() if pipe in heard and self._finishes(worker)]

    def _finishes(self, worker: _Worker[RunT]) -> bool:
        match _received(worker.pipe):
            case _Note(text):
                self.progress.note(text)
                return False
            case _Failed(error):
                self._failure = self._failure or error
                self._release(worker)
                return False
            case _Done():
                self._release(worker)
                return True
            case _:
                self._bury(worker)
                return False

    def _release(self, worker: _Worker[RunT]) -> None:
        self._busy.remove(worker)
        self._idle.append(worker)

    def _bury(self, worker: _Worker[RunT]) -> None:
        """A process ended in the middle of a run: by itself, or by a signal, as where memory was short."""
        self._busy.remove(worker)
        worker.pipe.close()
        worker.process.join(END_S)
        run, code = worker.run, worker.process.exitcode or 0
        if code >= 0:
            self._failure = self._failure or ContractError(
                f"run '{run.title}': its process ended with {code}", hint="its traceback stands above: report it"
            )
            return
        how = f"'{run.title}', whose process was ended by {signal.Signals(-code).name}"
        self._ended[run.key.key] += 1
        if self._ended[run.key.key] < TRIES:
            self._waiting.insert(0, run)
            self.progress.note(f"warning: {how}, is tried once more")
        else:
            self._lost.append(how)

    def _end(self) -> None:
        """Lets processes end that have nothing to do, and ends those that are in the middle of a run."""
        for worker in self._busy:
            worker.process.terminate()
        for worker in (*self._busy, *self._idle):
            worker.pipe.close()
        for worker in (*self._busy, *self._idle):
            worker.process.join(END_S)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


@contextmanager
def _sigint_kept() -> Iterator[None]:
    """Processes that start meanwhile never get Ctrl-C: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(pipe: Connection) -> Any:
    """The next message; None where the other end is gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


class _Told(Silent):
    """Sends notes to the process that draws progress."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def note(self, text: str) -> None:
        """Sends the line."""
        with suppress(OSError):  # that process is gone; the run is finished all the same
            self._pipe.send(_Note(text))


def _work(pipe: Connection) -> None:
    """A process of the pool: makes runs until there are no more."""
    os.environ["OMP_NUM_THREADS"] = str(pipe.recv())  # read when torch is imported, which the job below may do
    job: Job = pipe.recv()
    store = Store(job.folder)
    hands = job.open(store, _Told(pipe))
    with store.used_by(hands.title, ()):
        while (run := _received(pipe)) is not None:
            answer: _Done | _Failed = _Done()
            try:
                hands.make(run)
            except EdgecError as error:
                answer = _Failed(error)
            with suppress(OSError):
                pipe.send(answer)
