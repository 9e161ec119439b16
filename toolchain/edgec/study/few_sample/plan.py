"""What a few-sample study will run: every run bound, with the key of its result, before anything heavy happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.core.errors import UnsupportedError
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import require_build_extra
from edgec.pipeline.config import BuildConfig, FewConfig, read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data
from edgec.pipeline.store import StageKey
from edgec.study.few_sample.grid import Cell, Grid

__all__ = ["Run", "Study", "general_methods", "known_methods", "plan_study"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One compression of the study.

    Attributes:
        cell: The row that it counts for.
        seed: Seeds every draw.
        plan: The same as a build, of which data and compression are run.
    """

    cell: Cell
    seed: int
    plan: Plan

    @property
    def key(self) -> StageKey:
        """What its result depends on: the images, the compression and the test images."""
        before = [key for key in (data.key(self.plan), compress.key(self.plan)) if key]
        return _key("few-sample", None, self.plan, {key.stage: key.key for key in before})

    @property
    def before(self) -> tuple[StageKey, ...]:
        """The images, which are drawn once for all methods that learn from them."""
        return (data.key(self.plan),)

    @property
    def title(self) -> str:
        """For people, as in `mir ours, 50 samples at imbalance 100, seed 0`."""
        cell = self.cell
        return f"{cell.method} {cell.variant.name}, {cell.draw}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A bound study.

    Attributes:
        grid: What was asked for.
        plan: A build with what all runs share: model, images, accelerator, budget.
        runs: All of it, in the order in which it is run.
    """

    grid: Grid
    plan: Plan
    runs: tuple[Run, ...]

    @property
    def teacher(self) -> StageKey:
        """What the teacher's figures depend on."""
        settings = self.plan.model.model_dump(mode="json", exclude={"weights"})
        return _key("teacher", settings, self.plan, {})


def _key(stage: str, settings: Any, plan: Plan, sources: dict[str, str]) -> StageKey:
    outside = {name: plan.digests[name] for name in ("model", "test", "tools")}
    return StageKey(stage=stage, settings=settings, sources={**outside, **sources})


def known_methods() -> tuple[str, ...]:
    """Every registered compression method.

    Raises:
        MissingDependencyError: A package that compression needs is not installed.
    """
    require_build_extra()
    from edgec.compress.methods import methods

    return tuple(methods)


def general_methods() -> tuple[str, ...]:
    """Those that take any architecture.

    Raises:
        MissingDependencyError: A package that compression needs is not installed.
    """
    require_build_extra()
    from edgec.compress.methods import methods

    return tuple(name for name in methods if methods[name].requires is None)


def plan_study(
    path: Path | None, overrides: Sequence[tuple[str, Any]], grid: Grid, *, accelerator: Accelerator
) -> Study:
    """Binds every run of the grid.

    Args:
        path: An `edgec.toml`; tables `[compress.NAME]` of several methods may stand in it. None studies the digits.
        overrides: Settings on top of it, by dotted name.
        grid: What is varied; it goes before the config's `compress.method`, `data.few`, `seed` and
            `compress.oefsmc.parts`.
        accelerator: Where training runs.

    Raises:
        ConfigError: An unknown method, setting or target.
        DataError: A file or folder is not there.
        UnsupportedError: The model is a finished graph, which cannot be compressed.
    """
    configs = {method: _read(path, overrides, method) for method in grid.methods}
    shared = plan_build(configs[grid.methods[0]], accelerator=accelerator)
    if shared.model.is_onnx:
        raise UnsupportedError(
            f"model '{shared.model.name}' is a finished graph, which cannot be compressed",
            hint="name its architecture and weights in [model]",
        )
    runs = tuple(
        Run(cell=cell, seed=seed, plan=_varied(shared, configs[cell.method], cell, seed)) for cell, seed in grid.runs
    )
    for method in grid.methods:
        _ = Sources(replace(shared, config=configs[method]), Silent()).method
    return Study(grid=grid, plan=shared, runs=runs)


def _read(path: Path | None, overrides: Sequence[tuple[str, Any]], method: str) -> BuildConfig:
    others = set(known_methods()) - {method}
    return read_config(path, [*overrides, ("compress.method", method)], unused_methods=others)


def _varied(plan: Plan, config: BuildConfig, cell: Cell, seed: int) -> Plan:
    """The plan of a build that compresses as the cell has it."""
    compress = config.compress.model_copy(
        update={
            "variant": cell.variant.runs,
            "oefsmc": cell.variant.settings(config.compress.oefsmc),
        }
    )
    given = config.data.few or FewConfig(total=cell.samples)
    few = given.model_copy(update={"total": cell.samples, "imbalance": cell.imbalance})
    data = config.data.model_copy(update={"few": few})
    config = config.model_copy(update={"compress": compress, "data": data, "seed": seed})
    return replace(plan, config=config, data=data)
