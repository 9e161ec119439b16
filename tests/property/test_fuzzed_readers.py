"""Readers of strangers' bytes keep their promises on sound bytes, and on those bytes cut and changed.

`python benchmarks/fuzz` looks for more by coverage, for hours.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import TARGETS, Target, load

SLOW = {"registry", "session"}
"""They speak over sockets and pipes."""


@cache
def seeds(name: str) -> list[bytes]:
    return load(name).seeds()


def target(name: str) -> Target:
    if name == "registry":
        pytest.importorskip("oras")
    return load(name)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "graph"])
def test_sound_bytes_are_taken(name: str) -> None:
    """Else a reader that refuses everything would pass."""
    assert target(name).check(seeds(name)[0])


@pytest.mark.parametrize("name", sorted(SLOW))
@pytest.mark.parametrize("part", range(6))
def test_conversations_that_are_cut_end(name: str, part: int) -> None:
    reader = target(name)
    for data in seeds(name):
        reader.check(data[: len(data) * part // 6])


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
@settings(deadline=None)  # the first picture imports Pillow's plug-ins
@given(st.data())
def test_changed_bytes_break_no_promise(name: str, data: st.DataObject) -> None:
    sound = data.draw(st.sampled_from(seeds(name)))
    at = data.draw(st.integers(0, len(sound)))
    patch, removed = data.draw(st.binary(max_size=12)), data.draw(st.integers(0, 40))
    target(name).check(sound[:at] + patch + sound[at + removed :])
