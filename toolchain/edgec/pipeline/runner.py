"""Runs stages in order: from the cache where it can, and tells who waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgec.core.progress import Progress
from edgec.pipeline.plan import Plan
from edgec.pipeline.store import Output, Recipe, Store

__all__ = ["Runner"]


class Runner:
    """A build under way.

    Attributes:
        made: Outputs so far, in order.
    """

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self._stages = [recipe.stage for recipe in plan.stages]
        self._store = store
        self._progress = progress
        self.made: list[Output] = []

    def __call__(self, recipe: Recipe, make: Callable[[Path], Mapping[str, Any]]) -> Output:
        """The output of a stage."""
        number = self._stages.index(recipe.stage) + 1
        cached = self._store.holds(recipe)
        self._progress.stage(recipe.stage, number=number, total=len(self._stages), cached=cached)
        self.made.append(self._store.get(recipe, make))
        return self.made[-1]

    def maybe(self, recipe: Recipe | None, make: Callable[[Path], Mapping[str, Any]]) -> Output | None:
        """The output of a stage that this build may not have."""
        return None if recipe is None else self(recipe, make)
