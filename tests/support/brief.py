"""Builds whose latencies are measured, but not for long."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["brief_latencies", "main"]


@contextmanager
def brief_latencies() -> Iterator[None]:
    """Builds of this process measure latencies for a tenth of the usual time, within the block."""
    from edgec.pipeline import measure

    brief = functools.partial(measure.measure_in_turns, warmup_s=0.01, min_runs=20, min_turns=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "measure_in_turns", brief)
        yield


def main(arguments: list[str]) -> None:
    """The command line of such builds, for a process of its own."""
    from edgec.cli import main

    with brief_latencies():
        main(arguments)
