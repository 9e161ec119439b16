"""The history of a site, and what ran before what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.deploy.journal import Event, Journal, ran_before, runs

STEPS = st.lists(
    st.tuples(st.sampled_from(["switch", "rollback", "install", "settled", "refused"]), st.sampled_from("abcd"))
)


def event(kind: str, digest: str, *, ok: bool = True) -> Event:
    return Event(time="2026-01-02T03:04:05+00:00", event=kind, digest=digest, name="käse", by="me", ok=ok)  # type: ignore[arg-type]


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl")
    assert journal.events() == ()
    written = (event("install", "a"), event("switch", "a"), event("refused", "b", ok=False))
    for one in written:
        journal.append(one)
    assert journal.events() == written


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_that_was_cut_short_costs_that_event_and_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "history.jsonl"
    journal = Journal(path)
    first, second, third = event("switch", "a"), event("switch", "b"), event("switch", "c")
    journal.append(first)
    journal.append(second)
    path.write_bytes(path.read_bytes()[: -cut - 1])
    journal.append(third)
    assert journal.events() == (first, third)


@given(STEPS)
def test_what_runs_is_what_the_last_step_says(steps: list[tuple[str, str]]) -> None:
    """The reference: the last step that moves something."""
    moved = [digest for kind, digest in steps if kind in ("switch", "rollback")]
    assert (runs(event(*step) for step in steps) or [None])[-1] == (moved or [None])[-1]


@given(STEPS, st.sampled_from("abcd"))
def test_what_ran_before_is_never_what_runs(steps: list[tuple[str, str]], current: str) -> None:
    events = [event(*step) for step in steps]
    before = ran_before(events, current)
    assert current not in before
    assert set(before) <= {digest for kind, digest in steps if kind in ("switch", "rollback")}


def test_what_was_rolled_away_from_did_not_run_before() -> None:
    events = [event("switch", "a"), event("switch", "b"), event("switch", "c"), event("rollback", "b")]
    assert ran_before(events, "b") == ["a"]
    assert ran_before([*events, event("switch", "d")], "d") == ["b", "a"]


def test_a_switch_that_was_noted_and_then_cut_does_not_count() -> None:
    events = [event("switch", "a"), event("switch", "b"), event("switch", "c")]
    assert ran_before(events, "b") == ["a"]
    assert ran_before(events, "x") == ["c", "b", "a"]
