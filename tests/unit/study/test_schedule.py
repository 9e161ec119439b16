"""Which run is next: what others wait for, what nobody knows the length of, then the longest."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.pipeline.store import Store
from edgec.study.schedule import Durations, next_run
from support.tiny_runs import Made, TinyRun


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def run(title: str, *, cell: str = "", shares: str | None = None) -> TinyRun:
    return TinyRun(title=title, folder=Path(), cell=cell, shares=shares)


def test_the_longest_goes_first_and_equal_ones_in_their_order(store: Store) -> None:
    known = Durations()
    for cell, seconds in (("short", 1.0), ("long", 9.0), ("long", 7.0), ("long", 100.0)):
        known.note(run("of another seed", cell=cell), seconds)
    assert known.of(run("x", cell="long")) == 9.0
    waiting = [run("a", cell="short"), run("b", cell="long"), run("c", cell="long")]
    assert next_run(waiting, [], store, known) is waiting[1]


def test_what_nobody_knows_goes_before_what_is_known(store: Store) -> None:
    known = Durations()
    known.note(run("z", cell="long"), 100.0)
    waiting = [run("a", cell="long"), run("b", cell="unknown")]
    assert next_run(waiting, [], store, known) is waiting[1]


def test_what_others_need_goes_first_and_is_not_made_twice(store: Store) -> None:
    alone, first, second = run("alone"), run("first", shares="net"), run("second", shares="net")
    assert next_run([alone, first, second], [], store, Durations()) is first
    assert next_run([second, alone], [first], store, Durations()) is alone
    assert next_run([second], [first], store, Durations()) is None
    store.get(first.before[0], Made, lambda _: Made(title="net"))
    assert next_run([second], [first], store, Durations()) is second


def test_nothing_is_next_where_nothing_waits(store: Store) -> None:
    assert next_run([], [run("a")], store, Durations()) is None
