"""The progress that shows nothing."""

from __future__ import annotations

import pytest

from edgec.core.progress import Progress, Silent


def test_it_passes_every_item_on_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress: Progress = Silent()
    progress.stage("compress", number=1, total=2, cached=False)
    progress.note("a line")
    assert list(progress.track(iter("abc"), total=3, what="counting", unit="letter")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_items_are_taken_as_they_are_asked_for() -> None:
    taken = []
    items = (taken.append(n) or n for n in range(5))
    tracked = Silent().track(items, total=5, what="counting")
    assert taken == []
    assert next(tracked) == 0
    assert taken == [0]
