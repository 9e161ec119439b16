"""Runs stages in order: from the cache where it can, and tells who waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from edgec.pipeline.plan import Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import Output, StageKey, Store

__all__ = ["Runner"]

FactsT = TypeVar("FactsT", bound=BaseModel)
Make = Callable[[Sources, Path], FactsT]


class Runner:
    """A build under way.

    Attributes:
        sources: What stages read from; each gets as much of it as its key covers.
        store: Where their results are kept.
    """

    def __init__(self, sources: Sources, keys: Sequence[StageKey], store: Store) -> None:
        self.sources = sources
        self._stages = [key.stage for key in keys]
        self.store = store

    def __call__(self, key: StageKey, facts: type[FactsT], make: Make[FactsT]) -> Output[FactsT]:
        """The output of a stage."""
        number = self._stages.index(key.stage) + 1
        cached = self.store.brings(key)
        self.sources.progress.stage(key.stage, number=number, total=len(self._stages), cached=cached)
        return self.store.get(key, facts, lambda folder: make(self.sources.within(key), folder))

    def varied(self, plan: Plan) -> Runner:
        """The same build with another plan over the same model and images."""
        other = Runner(self.sources.varied(plan), (), self.store)
        other._stages = self._stages
        return other

    def maybe(self, key: StageKey | None, facts: type[FactsT], make: Make[FactsT]) -> Output[FactsT] | None:
        """The output of a stage that this build may not have."""
        return None if key is None else self(key, facts, make)
