"""The queue before the model: bounded, in order, run together where jobs wait, and emptied at the end."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgec.core.confined import OverrunError
from edgec.core.errors import DataError, UnsupportedError
from edgec.serve.pool import Full, Job, Pool, WorkerError, _step
from edgec.serve.tensors import Query

SOON_S = 60


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


def job(model: Any, value: float, *, rows: int = 1, client: str = "") -> Job[list[float]]:
    return Job(
        model=model,
        guard=nullcontext(),
        read=lambda: Query(tensor=np.full((rows, 1), value, np.float32)),
        write=lambda scores, query: scores.ravel().tolist(),
        client=client,
    )


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SOON_S))


async def entered(model: Slow) -> None:
    await asyncio.to_thread(model.entered.wait, SOON_S)


def test_more_than_may_wait_are_refused_and_none_of_the_others_is_lost() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=3, batch=1, reading_bytes=256 << 20)
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
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=3, reading_bytes=256 << 20)
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
        old, new, pool = Slow(), Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
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
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)

        def unreadable() -> Query:
            raise DataError("no image")

        bad = job(model, 0)
        bad.read = unreadable
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
        model, pool = Slow(), Pool(workers=2, waiting=9, batch=9, reading_bytes=256 << 20)
        both = threading.Barrier(2)
        model.predict = lambda tensor: (both.wait(SOON_S), tensor)[1]  # pyright: ignore[reportAttributeAccessIssue]
        first = asyncio.create_task(pool.run(job(model, 1)))
        await asyncio.sleep(0.05)  # so that one worker does not take both
        assert await asyncio.gather(first, pool.run(job(model, 2))) == [[1], [2]]
        pool.close()

    run(test)


def test_a_brief_job_that_is_alone_needs_no_thread() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
        model.go.set()
        ran_in: list[str] = []
        brief = job(model, 1)
        brief.read = lambda: (
            ran_in.append(threading.current_thread().name),
            Query(tensor=np.ones((1, 1), np.float32)),
        )[1]
        assert await pool.run(brief, brief=True) == [1]
        assert ran_in == [threading.current_thread().name]
        pool.close()

    run(test)


def test_brief_jobs_that_come_together_are_run_together() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        others = [asyncio.create_task(pool.run(job(model, i), brief=True)) for i in (1, 2)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await asyncio.gather(first, *others) == [[0], [1], [2]]
        assert model.calls == [1, 2]
        pool.close()

    run(test)


def test_a_request_that_the_model_fails_on_takes_no_other_with_it() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
        plain = model.predict

        def predict(tensor: np.ndarray) -> np.ndarray:
            if (tensor == 2).any():
                raise UnsupportedError("onnxruntime: no")
            if (tensor == 3).any():
                raise ZeroDivisionError
            return plain(tensor)

        model.predict = predict  # pyright: ignore[reportAttributeAccessIssue]
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        others = [asyncio.create_task(pool.run(job(model, i))) for i in (1, 2, 3, 4)]
        await asyncio.sleep(0)
        model.go.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert [found[i] for i in (0, 1, 4)] == [[0], [1], [4]]
        assert [type(found[i]) for i in (2, 3)] == [UnsupportedError, WorkerError]
        pool.close()

    run(test)


def test_an_answer_that_cannot_be_written_fails_alone() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=9, reading_bytes=256 << 20)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        bad = job(model, 1)
        bad.write = lambda scores, query: 1 / 0
        others = [asyncio.create_task(pool.run(each)) for each in (bad, job(model, 2))]
        await asyncio.sleep(0)
        model.go.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(found[1]), found[2]] == [WorkerError, [2]]
        pool.close()

    run(test)


def test_one_long_answer_is_written_in_a_turn_and_all_short_ones() -> None:
    async def test() -> None:
        model = Slow()
        model.go.set()
        jobs = [job(model, value, rows=rows) for value, rows in enumerate((20, 20, 1, 20))]
        for each in jobs:
            each.query = each.read()
            each.scores = [each.query.tensor[: len(each.query.tensor) - 1]]  # one image is left of each
        turns = []
        while jobs:
            ended = [each for each, _ in _step(jobs, images=8)]
            turns.append([each.images for each in ended])
            jobs = [each for each in jobs if each not in ended]
        assert turns == [[1, 20], [20], [20]]

    run(test)


def test_a_request_of_many_images_lets_others_pass() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=2, reading_bytes=256 << 20)
        model.go.set()
        ended: list[str] = []

        async def ask(name: str, rows: int) -> list[float]:
            answer = await pool.run(job(model, 1, rows=rows))
            ended.append(name)
            return answer

        many, one = await asyncio.gather(ask("many", 100), ask("one", 1))
        assert (len(many), len(one)) == (100, 1)
        assert ended == ["one", "many"]
        assert max(model.calls) <= 8
        pool.close()

    run(test)


def test_a_client_with_many_requests_delays_another_by_one_of_them() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=99, batch=1, reading_bytes=256 << 20)
        first = asyncio.create_task(pool.run(job(model, 0)))
        await entered(model)
        ended: list[str] = []

        async def ask(client: str) -> None:
            await pool.run(job(model, 1, client=client))
            ended.append(client)

        tasks = [asyncio.create_task(ask("many")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask("one")))
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.gather(first, *tasks)
        assert ended.index("one") <= 1
        pool.close()

    run(test)


def test_what_is_large_is_read_in_another_process_and_small_ones_pass_it() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=1, reading_bytes=256 << 20)
        model.go.set()
        large = job(model, 0)
        large.apart, large.read = True, partial(Query, tensor=np.full((2, 1), 7, np.float32))
        found, _ = await asyncio.gather(pool.run(large), pool.run(job(model, 1)))
        assert found == [7, 7]
        assert model.calls == [1, 2]
        pool.close()

    run(test)


def test_a_body_that_nobody_awaits_any_more_is_not_kept_until_its_turn(
    until: Callable[[Callable[[], bool]], None],
) -> None:
    async def test() -> None:
        pool = Pool(workers=1, waiting=9, batch=1, reading_bytes=256 << 20)
        first, second = job(Slow(), 0), job(Slow(), 0)
        first.apart, first.read = True, partial(time.sleep, 600)  # pyright: ignore[reportAttributeAccessIssue]
        second.apart, body = True, np.zeros(9)
        second.read, held = partial(np.sum, body), weakref.ref(body)  # pyright: ignore[reportAttributeAccessIssue]
        tasks = [asyncio.create_task(pool.run(each)) for each in (first, second)]
        del second, body
        await asyncio.to_thread(until, lambda: pool.depth == 1)  # the first is being read
        tasks[1].cancel()
        await asyncio.gather(tasks.pop(), return_exceptions=True)
        assert pool.depth == 0
        assert held() is None
        tasks[0].cancel()
        pool.close()

    run(test)


def test_what_is_too_large_for_that_process_fails_alone() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=1, reading_bytes=256 << 20)
        model.go.set()
        large, next_one = job(model, 0), job(model, 0)
        large.apart, large.read = True, partial(np.ones, 1 << 28)  # pyright: ignore[reportAttributeAccessIssue]
        next_one.apart, next_one.read = True, partial(Query, tensor=np.full((1, 1), 7, np.float32))
        found = await asyncio.gather(pool.run(large), pool.run(next_one), return_exceptions=True)
        assert isinstance(found[0], OverrunError)
        assert found[1] == [7]
        pool.close()

    run(test)


def test_what_nobody_awaits_any_more_is_let_go() -> None:
    async def test() -> None:
        model, pool = Slow(), Pool(workers=1, waiting=9, batch=1, reading_bytes=256 << 20)
        many = asyncio.create_task(pool.run(job(model, 1, rows=1000)))
        await entered(model)
        large = job(model, 0)
        large.apart, large.read = True, partial(divmod, 1, 0)  # pyright: ignore[reportAttributeAccessIssue]
        left = asyncio.create_task(pool.run(large))
        many.cancel()
        left.cancel()
        await asyncio.gather(many, left, return_exceptions=True)
        model.go.set()
        assert await pool.run(job(model, 2)) == [2]
        assert sum(model.calls) < 100
        assert pool.depth == 0
        pool.close()

    run(test)
