"""Builds that measure what they measure of this machine, but not for long."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["brief_measuring", "main"]


@contextmanager
def brief_measuring() -> Iterator[None]:
    """Builds of this process time each model for some milliseconds and look at memory and energy once."""
    from edgec.pipeline import speed
    from support import exporter  # noqa: F401 - what exports a small net does it in half of the time

    brief = functools.partial(speed.measure_in_turns, warmup_s=0.01, min_runs=20, min_turns=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure_in_turns", brief)
        patch.setattr(speed, "FEWEST", 1)
        yield


def main(arguments: list[str]) -> None:
    """The command line of such builds, for a process of its own."""
    from edgec.cli import main

    with brief_measuring():
        main(arguments)
