"""The event loop's time: a client's share of a round, what waits for the next, and in which order."""

from __future__ import annotations

import asyncio
from functools import partial

from edgec.serve.connection import _head_piece
from edgec.serve.rounds import Rounds


def test_a_client_with_many_delays_another_by_a_share() -> None:
    async def test() -> list[str]:
        rounds, done = Rounds(), []
        for i in range(100):
            rounds.run("many", lambda i=i: done.append(f"many {i}"))
        await asyncio.sleep(0)
        rounds.run("one", lambda: done.append("one"))
        while len(done) < 101:  # noqa: ASYNC110  # rounds of the loop are what is tested
            await asyncio.sleep(0)
        return done

    done = asyncio.run(test())
    assert done.index("one") <= 12
    assert [each for each in done if each != "one"] == [f"many {i}" for i in range(100)]


def test_what_comes_within_a_share_does_not_wait() -> None:
    async def test() -> None:
        rounds, done = Rounds(), []
        assert [rounds.run("a", lambda: done.append(1)) for _ in range(5)] == [True] * 4 + [False]
        assert rounds.run("b", lambda: done.append(2))
        for _ in range(3):
            await asyncio.sleep(0)
        assert done == [1, 1, 1, 1, 2, 1]
        assert rounds.run("a", lambda: None)

    asyncio.run(test())


def test_what_costs_more_than_a_share_has_a_round_for_itself() -> None:
    async def test() -> None:
        rounds = Rounds()
        assert rounds.run("a", lambda: None, cost=10)
        assert not rounds.run("a", lambda: None, cost=10)
        await asyncio.wait_for(rounds.turn("a", cost=10), 20)

    asyncio.run(test())


def test_what_fails_takes_no_other_with_it() -> None:
    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        rounds = Rounds()
        for _ in range(4):
            rounds.run("a", lambda: None)
        rounds.run("a", partial(divmod, 1, 0))  # pyright: ignore[reportArgumentType]
        waiter = asyncio.ensure_future(rounds.turn("a"))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait_for(rounds.turn("a"), 20)

    asyncio.run(test())


def test_a_head_is_parsed_without_what_follows_it() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert _head_piece(head + b"1\r\nx\r\n" * 1000) == len(head)
    assert _head_piece(b"a: b\r\n" * 1000) == 1024
