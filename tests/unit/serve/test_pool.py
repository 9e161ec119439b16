"""The queue before the model: bounded, in order, run together where jobs wait, and emptied at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.serve.pool import Full, Job, Pool

SOON_S = 10


class Slow:
    """A model that waits to be let go, and notes how many images each call had; its scores are its input."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.session = SimpleNamespace(feed=lambda pixels: pixels.astype(np.float32))

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        self.calls.append(len(tensor))
        self.entered.set()
        assert self.go.wait(SOON_S)
        return tensor


def job(model: Any, value: float, *, rows: int = 1) -> Job[list[float]]:
    return Job(
        model=model,
        guard=nullcontext(),
        read=lambda: np.full((rows, 1), value, np.float32),
        write=lambda scores: scores.ravel().tolist(),
    )


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SOON_S))


async def entered(model: Slow) -> None:
    await asyncio.to_thread(model.entered.wait, SOON_S)


def test_more_than_may_wait_are_refused_and_none_of_the_others_is_lost() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=3, batch=1)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        waiting = [asyncio.create_task(pool.run(job(model, i))) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        assert pool.depth == 3
        with pytest.raises(Full):
            await pool.run(job(model, 4))
        model.go.set()
        assert await asyncio.gather(first, *waiting) == [[0], [1], [2], [3]]
        assert model.calls == [1, 1, 1, 1]
        pool.close()

    run(test)


def test_jobs_that_wait_are_run_together_and_split_again() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=3)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        others = [asyncio.create_task(pool.run(job(model, i, rows=i))) for i in (1, 2, 3, 4)]
        await asyncio.sleep(0)
        model.go.set()
        assert await asyncio.gather(first, *others) == [[0], [1], [2, 2], [3, 3, 3], [4, 4, 4, 4]]
        assert model.calls == [1, 6, 4]
        pool.close()

    run(test)


def test_two_versions_are_not_run_together() -> None:
    async def test() -> None:
        old, new, pool = Slow(), Slow(), Pool(workers=1, waiting=9, batch=9)
        first = asyncio.create_task(pool.run(job(old, 0)))
        await entered(old)
        others = [asyncio.create_task(pool.run(job(model, i))) for i, model in enumerate((old, new, old))]
        await asyncio.sleep(0)
        old.go.set()
        new.go.set()
        assert await asyncio.gather(first, *others) == [[0], [0], [1], [2]]
        assert (old.calls, new.calls) == ([1, 2], [1])
        pool.close()

    run(test)


def test_an_input_that_cannot_be_read_fails_alone() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)

        def unreadable() -> np.ndarray:
            raise DataError("no image")

        bad = Job(model=model, guard=nullcontext(), read=unreadable, write=np.ndarray.tolist)  # pyright: ignore[reportArgumentType]
        others = [asyncio.create_task(pool.run(each)) for each in (job(model, 1), bad, job(model, 2))]
        await asyncio.sleep(0)
        model.go.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(found[2], DataError)
        assert [found[i] for i in (0, 1, 3)] == [[0], [1], [2]]
        pool.close()

    run(test)


def test_two_workers_run_at_the_same_time() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=2, waiting=9, batch=9)
        both = threading.Barrier(2)
        model.predict = lambda tensor: (both.wait(SOON_S), tensor)[1]  # pyright: ignore[reportAttributeAccessIssue]
        first = asyncio.create_task(pool.run(job(model, 1)))
        await asyncio.sleep(0.05)  # so that one worker does not take both
        assert await asyncio.gather(first, pool.run(job(model, 2))) == [[1], [2]]
        pool.close()

    run(test)


def test_a_brief_job_that_is_alone_needs_no_thread() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9)
        model.go.set()
        ran_in: list[str] = []
        brief = job(model, 1)
        brief.read = lambda: (ran_in.append(threading.current_thread().name), np.ones((1, 1), np.float32))[1]
        assert await pool.run(brief, brief=True) == [1]
        assert ran_in == [threading.current_thread().name]
        pool.close()

    run(test)


def test_brief_jobs_that_come_together_are_run_together() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        others = [asyncio.create_task(pool.run(job(model, i), brief=True)) for i in (1, 2)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await asyncio.gather(first, *others) == [[0], [1], [2]]
        assert model.calls == [1, 2]
        pool.close()

    run(test)
