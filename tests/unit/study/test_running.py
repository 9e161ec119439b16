"""What a person who waits for a study is told."""

from __future__ import annotations

import pytest

from edgec.study.running import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 0 min"), (3600, "1 h 0 min"), (7530, "2 h 6 min")],
)
def test_durations_are_as_fine_as_they_matter(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
