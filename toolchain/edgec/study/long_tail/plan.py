"""What a long-tail study will run: every run bound, with the key of its result, before anything heavy happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgec.core.errors import ConfigError
from edgec.learn.config import MimicConfig
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import require_build_extra
from edgec.pipeline.config import BuildConfig, FewConfig, read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.stages import compress, data
from edgec.pipeline.store import StageKey
from edgec.study.held_out import held_out_key
from edgec.study.long_tail.grid import Cell, Grid
from edgec.study.scratch import require_trainable, scratch_key, training_settings, without_weights
from edgec.study.wording import network_name

__all__ = ["Run", "Study", "few_plan", "plan_study"]

SAMPLES = 50
"""Few samples in all, where the config does not say."""
LOGIT_WEIGHT = MimicConfig().logit_weight
"""Of the logits' loss beside the features' in recovery, where the config has 0: as in training with rounding."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One student of the study, or a teacher.

    Attributes:
        cell: The row that it counts for.
        seed: Seeds every draw.
        grid: What nets are trained on, and how.
        teacher: Architecture of the teacher, images and accelerator.
        student: Architecture of the student; the teacher's with few samples.
    """

    cell: Cell
    seed: int
    grid: Grid
    teacher: Plan
    student: Plan

    @cached_property
    def taught(self) -> StageKey:
        """The teacher: trained from scratch on the long tail's labels."""
        settings = training_settings(self.teacher, self.grid.taught, seed=self.seed)
        return self._scratch("long-tail-teacher", self.teacher, settings)

    @cached_property
    def tested(self) -> StageKey:
        """Which test images count: those that the long tail does not give away."""
        draw, samples = self.cell.draw, self.grid.samples
        return held_out_key("long-tail-tested", self.teacher, draw, samples=samples, seed=self.seed)

    @property
    def key(self) -> StageKey:
        """What its result depends on."""
        before = {"tested": self.tested.key, "test": self.teacher.digests["test"]}
        settings: dict[str, Any] = {"loss": self.cell.loss, "adjusted": self.cell.adjusted}
        if self.before:
            before["teacher"] = self.taught.key
        if self.cell.loss == "teacher":
            return StageKey(stage="long-tail", settings=settings, sources=before)
        if self.cell.distillation:
            settings["temperature"] = self.grid.temperature
        if self.cell.data == "few":
            plan = few_plan(self)
            before |= {found.stage: found.key for found in (data.key(plan), compress.key(plan)) if found}
        settings |= training_settings(self.student, self.grid.training, seed=self.seed)
        return self._scratch("long-tail", self.student, settings, **before)

    @property
    def before(self) -> tuple[StageKey, ...]:
        """The teacher, where it takes part."""
        taught = self.cell.loss == "teacher" or self.cell.data == "few" or self.cell.distillation
        return (self.taught,) if taught else ()

    @property
    def title(self) -> str:
        """For people, as in `ltkd, resnet56/resnet20, imbalance 100, seed 0`."""
        return f"{self.cell.name}, {self.group}, seed {self.seed}"

    @property
    def group(self) -> str:
        """What the cell has in common with those that it is compared with."""
        teacher, student = (network_name(plan.model.name) for plan in (self.teacher, self.student))
        nets = f"{teacher} pruned" if self.cell.data == "few" else f"{teacher}/{student}"
        return f"{nets}, imbalance {self.cell.imbalance:g}"

    def _scratch(self, stage: str, plan: Plan, settings: Mapping[str, Any], **before: str) -> StageKey:
        draw, samples = self.cell.draw, self.grid.samples
        return scratch_key(stage, plan, draw, samples=samples, settings=settings, **before)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A bound study.

    Attributes:
        grid: What was asked for.
        plan: A build with what all runs share: images, accelerator, the config's architecture.
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
        path: An `edgec.toml`, of which the model, its input, the images and `[compress]` count. None studies the
            digits.
        overrides: Settings on top of it, by dotted name.
        grid: What is varied.
        accelerator: Where training runs.

    Raises:
        ConfigError: An unknown setting or target; few samples, and no method that prunes.
        DataError: A file or folder is not there.
        MissingDependencyError: A package that training needs is not installed.
        UnsupportedError: The model is a finished graph, which cannot be trained.
    """
    require_build_extra()
    config = _bound(path, overrides, grid)
    names = {name for pair in grid.architectures for name in (pair.teacher, pair.student)}
    plans = {name: plan_build(_of_architecture(config, name), accelerator=accelerator) for name in sorted(names)}
    runs = tuple(
        Run(
            cell=cell,
            seed=seed,
            grid=grid,
            teacher=plans[cell.pair.teacher],
            student=plans[cell.pair.teacher if cell.data == "few" else cell.pair.student],
        )
        for cell, seed in grid.runs
    )
    return Study(grid=grid, plan=plans[grid.architectures[0].teacher], runs=runs)


def few_plan(run: Run) -> Plan:
    """The plan of a build that prunes the teacher and recovers it with the cell's loss."""
    config, loss = run.teacher.config, run.cell.distillation
    given = config.compress.oefsmc
    logits = {"logit_loss": loss, "logit_weight": given.recovery.logit_weight or LOGIT_WEIGHT} if loss else {}
    heat = {"temperature": run.grid.temperature} if loss else {"logit_weight": 0.0, "logit_loss": "kd"}
    recovery = given.recovery.model_copy(update={**logits, **heat, "loss_weights": ()})
    recipe = given.model_copy(update={"recovery": recovery, "recover": "jointly"})
    variant = "few" if config.compress.variant == "plain" else config.compress.variant
    changed = config.compress.model_copy(update={"oefsmc": recipe, "variant": variant})
    few = config.data.few or FewConfig(total=SAMPLES)
    images = config.data.model_copy(update={"few": few.model_copy(update={"imbalance": run.cell.imbalance})})
    config = config.model_copy(update={"compress": changed, "data": images, "seed": run.seed})
    return replace(run.teacher, config=config, data=images)


def _bound(path: Path | None, overrides: Sequence[tuple[str, Any]], grid: Grid) -> BuildConfig:
    from edgec.compress.methods import methods

    config = without_weights(read_config(path, overrides))
    require_trainable(config)
    if "few" not in grid.data:
        images = config.data.model_copy(update={"ood": None, "few": None, "unlabelled": None})
        return config.model_copy(update={"data": images})
    if config.compress.method not in methods:
        raise ConfigError(
            f"compress.method is '{config.compress.method}', which prunes no teacher",
            hint=f"set one of {', '.join(methods)}, or leave few out of --data",
        )
    return config


def _of_architecture(config: BuildConfig, name: str) -> BuildConfig:
    """The config of another architecture: of the same module, where the name has none."""
    if not name:
        return config
    module, colon, _ = config.model.name.rpartition(":")
    whole = name if ":" in name else f"{module}{colon}{name}"
    return config.model_copy(update={"model": config.model.model_copy(update={"name": whole})})
