"""What an imbalance study will run: every run bound, with the key of its result, before anything heavy happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import require_build_extra
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.store import StageKey
from edgec.study.held_out import held_out_key
from edgec.study.imbalance.compression import Compression, parse_compression
from edgec.study.imbalance.grid import Cell, Grid
from edgec.study.scratch import require_trainable, scratch_key, training_settings, without_weights

__all__ = ["Run", "Study", "plan_study"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One net of the study.

    Attributes:
        cell: The row that it counts for.
        seed: Seeds every draw.
        grid: What nets are trained on, and how.
        plan: Model, images and accelerator.
    """

    cell: Cell
    seed: int
    grid: Grid
    plan: Plan

    @property
    def compression(self) -> Compression:
        """What is done to the trained net."""
        return parse_compression(self.cell.compression)

    @cached_property
    def start(self) -> StageKey:
        """The net that is trained from scratch, and what it depends on."""
        draw, samples = self.cell.draw, self.grid.samples
        return scratch_key("imbalance-start", self.plan, draw, samples=samples, settings=self._settings)

    @cached_property
    def tested(self) -> StageKey:
        """Which test images count: those that the training set does not give away."""
        samples = self.grid.samples
        return held_out_key("imbalance-tested", self.plan, self.cell.draw, samples=samples, seed=self.seed)

    @cached_property
    def net(self) -> StageKey:
        """The net that is trained on without being compressed: what others are compared with, and taught by."""
        before = {"start": self.start.key, "tested": self.tested.key}
        return self._key("imbalance-net", self._settings, before)

    @property
    def key(self) -> StageKey:
        """What its result depends on."""
        if self.compression.kind == "none":
            return self.net
        before = {"start": self.start.key, "tested": self.tested.key}
        if self.compression.kind == "distilled":
            before["net"] = self.net.key
        settings = {**self._settings, "compression": asdict(self.compression)}
        return self._key("imbalance", settings, before)

    @property
    def before(self) -> tuple[StageKey, ...]:
        """The net that is trained from scratch, and where it is to teach, that which was trained on."""
        return (self.start, self.net) if self.compression.kind == "distilled" else (self.start,)

    @property
    def title(self) -> str:
        """For people, as in `a3w3, linear, imbalance 100, seed 0`."""
        return f"{self.cell.compression}, {self.cell.draw.name}, seed {self.seed}"

    @property
    def _settings(self) -> dict[str, Any]:
        return training_settings(self.plan, self.grid.training, seed=self.seed)

    def _key(self, stage: str, settings: Any, before: dict[str, str]) -> StageKey:
        given = {name: self.plan.digests[name] for name in ("test", "tools")}
        return StageKey(stage=stage, settings=settings, sources={**given, **before})


@dataclass(frozen=True, kw_only=True)
class Study:
    """A bound study.

    Attributes:
        grid: What was asked for.
        plan: A build with what all runs share: model, images, accelerator.
        runs: All of it, in the order in which it is run.
    """

    grid: Grid
    plan: Plan
    runs: tuple[Run, ...]


def plan_study(
    path: Path | None, overrides: Sequence[tuple[str, Any]], grid: Grid, *, accelerator: Accelerator
) -> Study:
    """Binds every run of the grid.

    Args:
        path: An `edgec.toml`, of which the model, its input, training and test images and the augmentation count.
            None studies the digits.
        overrides: Settings on top of it, by dotted name.
        grid: What is varied.
        accelerator: Where training runs.

    Raises:
        ConfigError: An unknown setting or target.
        DataError: A file or folder is not there.
        MissingDependencyError: A package that training needs is not installed.
        UnsupportedError: The model is a finished graph, which cannot be trained.
    """
    require_build_extra()
    from edgec.compress.methods import methods

    config = _from_scratch(read_config(path, overrides, unused_methods=tuple(methods)))
    require_trainable(config)
    plan = plan_build(config, accelerator=accelerator)
    runs = tuple(Run(cell=cell, seed=seed, grid=grid, plan=plan) for cell, seed in grid.runs)
    return Study(grid=grid, plan=plan, runs=runs)


def _from_scratch(config: BuildConfig) -> BuildConfig:
    """Without what the study has no use for: weights, few samples and OOD images."""
    config = without_weights(config)
    return config.model_copy(update={"data": config.data.model_copy(update={"ood": None, "few": None})})
