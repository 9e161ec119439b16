"""Candidates of a search without any build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from edgec.tuning.candidate import Candidate, Found, Tuned

Figures = Sequence["tuple[float, float] | str"]


def found(latency_share: float, quality: float, agreement: Mapping[str, float] | None = None) -> Found:
    return Found(
        agreement=agreement or {"cat": 1.0, "dog": quality},
        images=100,
        latency_ms=2 * latency_share,
        latency_share=latency_share,
        size_bytes=1000,
    )


@pytest.fixture
def search_of() -> Callable[..., Tuned]:
    """A search from latency and quality of each candidate, or from the error that it ended with."""

    def make(figures: Figures, *, agreement: float | None = None) -> Tuned:
        candidates = [
            Candidate(number=number, settings={"compress.keep_flops": (number + 1) / 100}, error=each)
            if isinstance(each, str)
            else Candidate(number=number, settings={"compress.keep_flops": (number + 1) / 100}, found=found(*each))
            for number, each in enumerate(figures)
        ]
        return Tuned(
            name="digits",
            target="jetson-orin-nano-8gb",
            title="Jetson Orin Nano 8 GB",
            identity="0" * 64,
            timed="predicted",
            machine="a machine",
            edgec="0.1.0",
            agreement=agreement,
            candidates=tuple(candidates),
        )

    return make
