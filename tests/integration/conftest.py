"""What tests of whole builds share."""

from __future__ import annotations

import functools

import pytest

from edgec.pipeline import measure


@pytest.fixture
def brief_latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are measured, but not for long."""
    brief = functools.partial(measure.measure_in_turns, warmup_s=0.01, min_runs=20, min_turns=6)
    monkeypatch.setattr(measure, "measure_in_turns", brief)
